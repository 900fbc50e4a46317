"""What is not told for now: silences and inhibition, as Alertmanager has them. Pure; in doubt, it is told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ironclad.notify.model import fits, matches

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from ironclad.notify.model import Event
    from ironclad.sections import InhibitSettings


@dataclass(frozen=True, slots=True)
class Silence:
    """What matches is not told until `ends_at`."""

    id: int
    matchers: Mapping[str, str]
    ends_at: datetime
    comment: str = ""


class Muting:
    """What is muted at one moment.

    Args:
        silences: those that have not ended.
        rules: which alerts hold back which others.
        firing: the subject of every alert that fires now, by its key.
    """

    def __init__(
        self,
        silences: Sequence[Silence],
        rules: Sequence[InhibitSettings],
        firing: Mapping[str, Mapping[str, str]],
    ) -> None:
        self._silences = silences
        # A rule's sources are few: they are found once, not for each of thousands of targets.
        self._rules = [
            (rule, [(key, subject) for key, subject in firing.items() if matches(rule.source, subject)])
            for rule in rules
        ]

    def reason(self, event: Event) -> str | None:
        """Why an event is not told now; None if it is."""
        subject = event.subject
        for silence in self._silences:
            if matches(silence.matchers, subject):
                return f"silence {silence.id}"
        for rule, sources in self._rules:
            if sources and fits(rule.target, subject):
                found = _inhibitor(rule, sources, event.alert, subject)
                if found is not None:
                    return f"inhibited by {found}"
        return None


def _inhibitor(
    rule: InhibitSettings, sources: Sequence[tuple[str, Mapping[str, str]]], key: str, subject: Mapping[str, str]
) -> str | None:
    """The alert that holds this one back: never itself, and none that matches both sides where this one does, too."""
    both = matches(rule.source, subject)
    for source, found in sources:
        if source == key or (both and fits(rule.target, found)):
            continue
        if all(found.get(label, "") == subject.get(label, "") for label in rule.equal):
            return source
    return None
