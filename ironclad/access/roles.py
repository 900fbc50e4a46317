"""The roles of tokens, and what each may do."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping


class Role(enum.StrEnum):
    """What a token is for."""

    SUBMIT = "submit"
    """Sends songs; sees and changes the jobs of its user and no others."""
    READ = "read"
    """Sees everything, changes nothing."""
    OPERATE = "operate"
    """Everything."""


class Right(enum.StrEnum):
    """What an endpoint needs."""

    SEE = "see"
    """Look at jobs and their files: those of its user, or all."""
    SEND = "send"
    """Make jobs of songs."""
    CHANGE = "change"
    """Hold, release, cancel, retry, replay jobs: those of its user, or all."""
    OVERSEE = "oversee"
    """Look at the installation as a whole."""
    OPERATE = "operate"
    """Pause and resume it."""


RIGHTS: Final[Mapping[Role, frozenset[Right]]] = {
    Role.SUBMIT: frozenset({Right.SEE, Right.SEND, Right.CHANGE}),
    Role.READ: frozenset({Right.SEE, Right.OVERSEE}),
    Role.OPERATE: frozenset(Right),
}
"""The whole matrix."""

EVERYBODY: Final = frozenset({Role.READ, Role.OPERATE})
"""Roles that see every user's jobs."""
