"""Watch roots: stability, ignore rules and the claim of files."""
