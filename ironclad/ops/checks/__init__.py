"""What `ironclad doctor` looks at, by area; each check is a plain function that returns outcomes."""
