"""What operators do with a published library: preview, lint, verify, retag, refile."""
