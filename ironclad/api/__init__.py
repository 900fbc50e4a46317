"""The control API: HTTP in front of the operations and queries that the command line and the cockpit use."""
