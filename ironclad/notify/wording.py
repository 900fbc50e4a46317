"""The words of a message: what happened, why, what to do, the command to type. Plain text, Markdown and HTML. Pure."""

from __future__ import annotations

import html
import re
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from ironclad.errors import CATALOGUE
from ironclad.jobs.notices import KINDS, Severity, Status
from ironclad.notify.model import RANK

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ironclad.notify.model import Event

_SECTIONS: Final = 8
_EXAMPLES: Final = 3
_RECORDS: Final = 50
_NAME: Final = 120
_DETAIL: Final = 300
_HARMFUL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]+")
_MARKDOWN: Final = re.compile(r"([\\`*_{}\[\]<>()#+!|~])")


@dataclass(frozen=True, slots=True)
class Section:
    """Alerts that have their cause in common."""

    heading: str
    todo: str = ""
    items: tuple[str, ...] = ()
    more: int = 0


@dataclass(frozen=True, slots=True)
class Composed:
    """A message's words, and its alerts as data."""

    title: str
    text: str
    markdown: str
    html: str
    severity: Severity
    firing: bool
    records: tuple[Mapping[str, Any], ...] = field(default=())


def compose(events: Sequence[Event], *, repeat: bool = False, escalated: bool = False, link: str = "") -> Composed:
    """One message about all of these.

    Args:
        events: at least one; of an alert, its last.
        repeat: they were told before and still last.
        escalated: nobody has acknowledged them.
        link: an address at the end, if there is one.
    """
    firing = [event for event in events if event.status is not Status.RESOLVED]
    over = [event for event in events if event.status is Status.RESOLVED]
    severity = max((event.severity for event in firing or events), key=lambda one: RANK[one])
    title = _title(firing, over, severity, repeat=repeat, escalated=escalated)
    sections = [*_sections(firing), *([_well_again(over)] if over else [])]
    shown, left = sections[:_SECTIONS], len(sections) - _SECTIONS
    if left > 0:
        shown.append(Section(f"… and {left} more causes: `ironclad notify list`"))
    text, markdown, page = _plain(shown, link), _marked(shown, link), _html(shown, link)
    bad = any(event.status is Status.FIRING for event in firing)
    return Composed(title, text, markdown, page, severity, bad, tuple(_record(event) for event in events[:_RECORDS]))


def clean(text: object, limit: int = _DETAIL) -> str:
    """One harmless line of what came from files: no controls, no mention of everybody, bounded."""
    line = _HARMFUL.sub(" ", str(text)).strip()
    line = line.replace("@", "@\u200b").replace("<!", "<\u200b!")
    return line if len(line) <= limit else f"{line[: limit - 1]}…"


def _title(firing: Sequence[Event], over: Sequence[Event], severity: Severity, *, repeat: bool, escalated: bool) -> str:
    if not firing:
        return f"[RESOLVED] {_count(over)}"
    mark = "ESCALATED" if escalated else "STILL" if repeat else severity.value.upper()
    return f"[{mark}] {_count(firing)}" + (f", {len(over)} well again" if over else "")


def _count(events: Sequence[Event]) -> str:
    """`812 jobs failed, disk almost full`: the kinds with their numbers."""
    kinds: dict[str, list[Event]] = defaultdict(list)
    for event in events:
        kinds[event.kind].append(event)
    parts = []
    for kind, found in list(kinds.items())[:3]:
        if kind in {"job_failed", "job_succeeded"}:
            verb = {"job_failed": "failed", "job_succeeded": "succeeded"}[kind]
            parts.append(f"{len(found):,} job{'' if len(found) == 1 else 's'} {verb}")
        else:
            about = clean(found[0].data.get("name", ""), 60)
            known = KINDS.get(kind)
            what = known.what.rstrip(".") if known else kind.replace("_", " ")
            parts.append(what + (f" ({about})" if about and len(found) == 1 else f" ({len(found)})" * (len(found) > 1)))
    return ", ".join(parts) + (", …" if len(kinds) > 3 else "")  # noqa: PLR2004 - as many as a title holds


def _sections(events: Iterable[Event]) -> list[Section]:
    """By cause, the most frequent first."""
    causes: dict[tuple[str, str, str], list[Event]] = defaultdict(list)
    for event in events:
        stage = event.labels.get("stage", "") if event.kind == "job_failed" else ""
        causes[event.kind, str(event.data.get("code", "")), stage].append(event)
    ordered = sorted(causes.items(), key=lambda one: (-RANK[one[1][0].severity], -len(one[1])))
    return [_section(kind, code, stage, found) for (kind, code, stage), found in ordered]


def _section(kind: str, code: str, stage: str, events: Sequence[Event]) -> Section:
    known, entry, first = KINDS.get(kind), CATALOGUE.get(code), events[0]
    what = (entry.what() if entry else "") or str(first.data.get("what") or "") or (known.what if known else kind)
    number = f"{len(events):,} times " if len(events) > 1 else ""
    place = f" at {stage}" if stage else ""
    heading = f"{number}{f'{code}{place}: ' if code else ''}{clean(what)}"
    hints = [entry.hint if entry else str(first.data.get("hint") or ""), known.todo if known else ""]
    todo = " ".join(clean(hint) for hint in dict.fromkeys(hints) if hint)
    items = tuple(_item(event) for event in events[:_EXAMPLES])
    return Section(heading, todo, tuple(item for item in items if item), max(0, len(events) - _EXAMPLES))


def _item(event: Event) -> str:
    name, detail = clean(event.data.get("name", ""), _NAME), clean(event.data.get("detail") or "")
    line = ": ".join(part for part in (name, detail) if part)
    job = event.data.get("job_uuid")
    return f"{line} (`ironclad jobs show {str(job)[-8:]}`)" if job else line


def _well_again(events: Sequence[Event]) -> Section:
    kinds: dict[str, int] = defaultdict(int)
    for event in events:
        kinds[event.kind] += 1
    what = ", ".join(f"{kind.replace('_', ' ')} ({number:,})" for kind, number in kinds.items())
    items = tuple(clean(event.data.get("name") or event.alert, _NAME) for event in events[:_EXAMPLES])
    return Section(f"Well again: {what}.", "", items, max(0, len(events) - _EXAMPLES))


def _plain(sections: Sequence[Section], link: str) -> str:
    lines: list[str] = []
    for section in sections:
        lines += [section.heading, *(f"What to do: {section.todo}" for _ in [0] if section.todo)]
        lines += [f"- {item}" for item in section.items]
        lines += [f"- … and {section.more:,} more"] if section.more else []
        lines.append("")
    return "\n".join([*lines, *([link] if link else [])]).strip()


def _marked(sections: Sequence[Section], link: str) -> str:
    lines: list[str] = []
    for section in sections:
        lines += [f"**{_escape(section.heading)}**", ""]
        lines += [f"What to do: {_escape(section.todo)}", ""] if section.todo else []
        lines += [f"- {_escape(item)}" for item in section.items]
        lines += [f"- … and {section.more:,} more"] if section.more else []
        lines.append("")
    return "\n".join([*lines, *([link] if link else [])]).strip()


def _escape(text: str) -> str:
    """Markdown with commands in backticks kept, everything else taken literally."""
    parts = text.split("`")
    if len(parts) % 2 == 0:  # a backtick of a file name's own
        return _MARKDOWN.sub(r"\\\1", text)
    return "".join(f"`{part}`" if index % 2 else _MARKDOWN.sub(r"\\\1", part) for index, part in enumerate(parts))


def _html(sections: Sequence[Section], link: str) -> str:
    blocks = []
    for section in sections:
        items = "".join(f"<li>{_coded(item)}</li>" for item in section.items)
        items += f"<li>… and {section.more:,} more</li>" if section.more else ""
        todo = f"<p>What to do: {_coded(section.todo)}</p>" if section.todo else ""
        blocks.append(f"<p><b>{_coded(section.heading)}</b></p>{todo}" + (f"<ul>{items}</ul>" if items else ""))
    if link:
        blocks.append(f'<p><a href="{html.escape(link)}">{html.escape(link)}</a></p>')
    return "\n".join(blocks)


def _coded(text: str) -> str:
    parts = html.escape(text).split("`")
    if len(parts) % 2 == 0:
        return html.escape(text)
    return "".join(f"<code>{part}</code>" if index % 2 else part for index, part in enumerate(parts))


def _record(event: Event) -> Mapping[str, Any]:
    return {
        "status": event.status.value, "kind": event.kind, "alert": event.alert, "severity": event.severity.value,
        "at": event.at.isoformat(), "labels": dict(event.labels), "data": dict(event.data), "id": event.id,
    }  # fmt: skip
