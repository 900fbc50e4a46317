"""What writing tags could not keep, said out loud."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Mapping

_EXCERPT = 120


@dataclass(frozen=True, slots=True)
class Loss:
    """A value that the target format cannot hold, or holds changed."""

    key: str
    """Canonical key, or `PICTURE`."""
    reason: str
    value: str
    """What was lost, cut to 120 characters."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "value", self.value[:_EXCERPT])

    def to_dict(self) -> dict[str, str]:
        """JSON-ready data."""
        return {"key": self.key, "reason": self.reason, "value": self.value}

    @classmethod
    def from_dict(cls, data: Mapping[str, str]) -> Self:
        """What `to_dict` described."""
        return cls(str(data["key"]), str(data["reason"]), str(data["value"]))
