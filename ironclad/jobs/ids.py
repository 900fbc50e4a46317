"""Identifiers."""

from __future__ import annotations

import secrets
import time
from uuid import UUID

_FRACTION_BITS = 12
_RANDOM_BITS = 62


def uuid7() -> UUID:
    """A UUID version 7 (RFC 9562, 5.7), ordered by its time of creation to a quarter of a microsecond.

    The 12 bits after the milliseconds hold the fraction of the millisecond (6.2, method 3), so that files received in
    one batch keep their order in the queue and in lists. The other 62 bits are random.
    """
    milliseconds, fraction = divmod(time.time_ns(), 1_000_000)
    fraction = (fraction << _FRACTION_BITS) // 1_000_000
    random = secrets.randbits(_RANDOM_BITS)
    return UUID(int=(milliseconds & (1 << 48) - 1) << 80 | 0x7 << 76 | fraction << 64 | 0b10 << 62 | random)


def trace_id() -> str:
    """A W3C trace id: 32 hexadecimal digits, not all zero."""
    return secrets.token_hex(15) + f"{secrets.randbelow(255) + 1:02x}"
