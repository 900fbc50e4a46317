"""Plugin hooks and their loading."""
