"""Who may do what through the control API: roles, and the tokens that carry them."""
