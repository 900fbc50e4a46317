"""How much one file's tags may hold."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Caps:
    """Limits of what is taken from one file; more is recorded and left in the source only."""

    value_bytes: int = 256 * 1024
    """Longest single value, in UTF-8."""
    text_bytes: int = 2 * 1024 * 1024
    """All values together."""
    values: int = 2000
    pictures: int = 100
    picture_bytes: int = 32 * 1024 * 1024
    """All pictures together."""
    picture_pixels: int = 10_000
    """Longest side of one picture."""
