"""Files of an installation: systemd units, compose files. Made as text here, written by `files.write`."""
