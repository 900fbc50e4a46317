"""What a check found."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Level(enum.StrEnum):
    """How a check ended, best first."""

    OK = "ok"
    WARN = "warn"
    """It works, with something an operator should know."""
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Outcome:
    """One result of a check; `about` tells several of one check apart (an engine, a root, a service)."""

    level: Level
    detail: str
    remedy: str = ""
    about: str = ""


def ok(detail: str, *, about: str = "") -> Outcome:
    """It is as it should be."""
    return Outcome(Level.OK, detail, about=about)


def warn(detail: str, remedy: str, *, about: str = "") -> Outcome:
    """It works for now."""
    return Outcome(Level.WARN, detail, remedy, about)


def fail(detail: str, remedy: str, *, about: str = "") -> Outcome:
    """It does not work."""
    return Outcome(Level.FAIL, detail, remedy, about)
