"""What a check says: nothing if all is well, else one of these."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from ironclad.testing.bench import Bench


class Broken(Exception):
    """The engine breaks the contract.

    Args:
        what: what it did, with figures.
        do: what its author has to do.
    """

    def __init__(self, what: str, do: str) -> None:
        super().__init__(f"{what}\nWhat to do: {do}")
        self.what = what
        self.do = do


class NotJudged(Exception):
    """The check makes no sense for this engine, or not before another one passes."""


@dataclass(frozen=True, slots=True)
class Check:
    """One part of the contract."""

    name: str
    """Its id, in words with dashes."""
    run: Callable[[Bench], None]
    """Raises `Broken` or `NotJudged`."""


def beyond(text: str, limit: int = 1500) -> str:
    """The end of a text that may be long."""
    return text if len(text) <= limit else f"…{text[-limit:]}"
