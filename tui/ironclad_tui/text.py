"""Text for the cockpit: whatever comes from files is made harmless here, and what it means never hangs on colour."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from ironclad.cli.text import printable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

LIMIT: Final = 10_000
"""Characters of one text that are looked at: tags may hold megabytes."""
_BLOCKS: Final = " ▁▂▃▄▅▆▇█"
_BAR_PARTS: Final = " ▏▎▍▌▋▊▉█"


class Span(NamedTuple):
    """Some text with a tone: good, bad, warn, run, dim, strong, title or none."""

    text: str
    tone: str = ""


Line = tuple[Span, ...]

STATES: Final[Mapping[str, Span]] = {
    "received": Span("· received", "dim"),
    "queued": Span("… queued"),
    "running": Span("▶ running", "run"),
    "waiting_retry": Span("↻ waiting_retry", "warn"),
    "succeeded": Span("✓ succeeded", "good"),
    "failed": Span("✗ failed", "bad"),
    "cancelled": Span("⊘ cancelled", "dim"),
    "cancelling": Span("⊘ cancelling", "warn"),
    "skipped": Span("» skipped", "dim"),
    "quarantined": Span("✗ quarantined", "bad"),
    "held": Span("‖ held", "warn"),
    "paused": Span("‖ paused", "warn"),
    "open": Span("✓ open", "good"),
    "done": Span("✓ done", "good"),
    "reused": Span("= reused", "good"),
    "ok": Span("✓ ok", "good"),
    "warn": Span("! warn", "warn"),
    "fail": Span("✗ fail", "bad"),
    "starting": Span("▶ starting", "run"),
    "degraded": Span("! degraded", "warn"),
    "missing": Span("✗ missing", "bad"),
    "loaded": Span("✓ loaded", "good"),
    "broken": Span("✗ broken", "bad"),
    "disabled": Span("⊘ disabled", "dim"),
    "error": Span("✗ error", "bad"),
    "warning": Span("! warning", "warn"),
    "published": Span("✓ published", "good"),
}
"""A mark, the word and a tone: the mark and the word say it all without the tone."""


def state(word: str) -> Span:
    """A state as it is shown."""
    return STATES.get(word) or Span(safe(word))


def safe(value: object, limit: int = LIMIT) -> str:
    """Any text in one line: cut to `limit` characters, control and direction characters escaped."""
    text = str(value)
    if len(text) > limit:
        text = text[: max(0, limit - 1)] + "…"
    return printable(text)


def safe_end(value: object, limit: int) -> str:
    """As `safe`, but what is cut is the beginning."""
    text = str(value)
    if len(text) > limit:
        text = "…" + text[len(text) - max(0, limit - 1) :]
    return printable(text)


def below(root: str, path: str) -> str:
    """A path without the data folder that everything is in: what is left tells more."""
    return path[len(root) + 1 :] if root and path.startswith(f"{root}/") else path


def spark(values: Sequence[int], width: int) -> str:
    """A row of block characters, the newest values on the right; each column is the sum of its share of values.

    Anything above zero is at least the lowest block, so that one failure in an hour is seen.
    """
    if width <= 0 or not values:
        return ""
    share = max(1, -(-len(values) // width))
    padded = [0] * (-len(values) % share) + list(values)
    sums = [sum(padded[index : index + share]) for index in range(0, len(padded), share)]
    top = max(sums) or 1
    return "".join(_BLOCKS[0 if not value else max(1, round(value / top * 8))] for value in sums)


def bar(fraction: float, width: int) -> str:
    """A progress bar of `width` cells, to an eighth of a cell."""
    eighths = round(min(1.0, max(0.0, fraction)) * width * 8)
    whole, part = divmod(eighths, 8)
    return ("█" * whole + (_BAR_PARTS[part] if part else "")).ljust(width, "░")[:width]


def number(value: int) -> str:
    """A count with separators: `100,000`."""
    return f"{value:,}"
