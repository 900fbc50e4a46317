"""Tags and pictures: reading, repairing and writing."""
