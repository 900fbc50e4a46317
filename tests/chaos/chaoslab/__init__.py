"""The crash laboratory: protocols that touch files, killed, failed and paused at each of their system calls."""
