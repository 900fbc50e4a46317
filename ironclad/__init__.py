"""Ironclad: a stream of music files becomes a tagged library of instrumentals, unattended."""

from __future__ import annotations

__version__ = "0.1.0"
