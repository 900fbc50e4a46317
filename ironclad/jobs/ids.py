"""Identifiers."""

from __future__ import annotations

import secrets
import time
from uuid import UUID

_RANDOM_BITS = 74


def uuid7() -> UUID:
    """A UUID version 7 (RFC 9562, 5.7): ordered by its millisecond of creation, else random."""
    milliseconds = time.time_ns() // 1_000_000
    random = secrets.randbits(_RANDOM_BITS)
    value = (
        (milliseconds & (1 << 48) - 1) << 80 | 0x7 << 76 | (random >> 62) << 64 | 0b10 << 62 | random & (1 << 62) - 1
    )
    return UUID(int=value)


def trace_id() -> str:
    """A W3C trace id: 32 hexadecimal digits, not all zero."""
    return secrets.token_hex(15) + f"{secrets.randbelow(255) + 1:02x}"
