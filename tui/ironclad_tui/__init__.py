"""The operator's cockpit."""
