"""Tables, sessions, the embedded PostgreSQL server and migrations."""
