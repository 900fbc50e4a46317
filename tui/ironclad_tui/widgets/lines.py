"""Lines of text that scroll: panels, details, logs."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, ClassVar, Final

from rich.cells import cell_len, chop_cells
from textual.binding import Binding, BindingType
from textual.strip import Strip

from ironclad_tui.text import Line, Span, safe
from ironclad_tui.widgets.tones import Toned

if TYPE_CHECKING:
    from collections.abc import Iterable

    from textual import events


_LEAST_WIDTH: Final = 10


class Lines(Toned, can_focus=True):
    """Shows lines; scrolls when they do not fit, by the keys of `less`.

    Args:
        wrap: break what is too long, under the line's first span if that is a name; else it is cut off.
        follow: keep the end in view as lines are added (logs), until somebody scrolls up.
        id: of the widget.
        classes: of the widget.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("down,j", "scroll_by(1)", "Down", show=False),
        Binding("up,k", "scroll_by(-1)", "Up", show=False),
        Binding("pagedown,space,ctrl+d", "scroll_page(1)", "Page down", show=False),
        Binding("pageup,ctrl+u", "scroll_page(-1)", "Page up", show=False),
        Binding("home,g", "scroll_edge(-1)", "Top", show=False),
        Binding("end,G", "scroll_edge(1)", "End", show=False),
    ]
    DEFAULT_CSS = "Lines { height: auto; }"

    def __init__(
        self, *, wrap: bool = False, follow: bool = False,
        id: str | None = None, classes: str | None = None,  # noqa: A002 - Textual's name
    ) -> None:  # fmt: skip
        super().__init__(id=id, classes=classes)
        self._given: tuple[Line, ...] = ()
        self._lines: tuple[Line, ...] = ()
        self._wrap = wrap
        self._follow = follow
        self._top = 0

    def show(self, lines: Iterable[Line | str]) -> None:
        """Replace the lines; nothing is drawn if they are the same."""
        shown = tuple(_safe(line) for line in lines)
        if shown == self._given:
            return
        self._given = shown
        before = len(self._lines)
        at_end = self._top >= before - max(1, self.size.height)
        self._break(self.size.width)
        self._top = self._bounded(len(self._lines) if self._follow and at_end else self._top)
        self.refresh(layout=before != len(self._lines) and self.styles.auto_dimensions)

    def _break(self, width: int) -> None:
        """Make the lines that fit from those that were given."""
        broken = self._wrap and width > _LEAST_WIDTH
        self._lines = tuple(part for line in self._given for part in wrapped(line, width)) if broken else self._given

    def on_resize(self) -> None:
        """Another width breaks lines elsewhere."""
        self._break(self.size.width)
        self._top = self._bounded(self._top)
        self.refresh()

    @property
    def text(self) -> str:
        """What is shown, for tests and copying."""
        return "\n".join("".join(span.text for span in line) for line in self._given)

    def get_content_height(self, container: object, viewport: object, width: int) -> int:  # noqa: ARG002 - Textual's signature
        """As many lines as there are at that width."""
        self._break(width)
        return len(self._lines)

    def render_line(self, y: int) -> Strip:
        """One line of the content."""
        index = self._top + y
        if index >= len(self._lines):
            return Strip.blank(self.size.width, self.base_style)
        more = y == self.size.height - 1 and index + 1 < len(self._lines)
        spans: Line = self._lines[index]
        if more and self.has_focus:
            spans = (*spans, Span("  ↓ more", "dim"))
        return self.strip(spans, self.size.width)

    def _bounded(self, top: int) -> int:
        return max(0, min(top, len(self._lines) - max(1, self.size.height)))

    def _move(self, top: int) -> None:
        self._top = self._bounded(top)
        self.refresh()

    def action_scroll_by(self, lines: int) -> None:
        """Scroll by lines."""
        self._move(self._top + lines)

    def action_scroll_page(self, pages: int) -> None:
        """Scroll by pages."""
        self._move(self._top + pages * max(1, self.size.height - 1))

    def action_scroll_edge(self, side: int) -> None:
        """Scroll to the top or the end; at the end, a log is followed again."""
        self._move(len(self._lines) if side > 0 else 0)

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        """The wheel."""
        event.stop()
        self._move(self._top + 3)

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        """The wheel."""
        event.stop()
        self._move(self._top - 3)


def wrapped(line: Line, width: int) -> list[Line]:
    """A line in parts of at most `width` cells, broken at spaces where there are any."""
    if sum(cell_len(span.text) for span in line) <= width:
        return [line]
    indent = cell_len(line[0].text) if len(line) > 1 and line[0].tone == "dim" else 1
    indent = min(indent, width // 2)
    parts: list[Line] = []
    current: list[Span] = []
    used = 0
    for span in line:
        for word in re.findall(r"\s*\S+\s*$|\s*\S+|\s+", span.text):
            rest = word
            if used and used + cell_len(rest) > width:
                parts.append(tuple(current))
                current, used = [Span(" " * indent)], indent
                rest = rest.lstrip()
            while cell_len(rest) > width - used:  # longer than a whole line: a path, say
                head = chop_cells(rest, width - used)[0]
                parts.append((*current, Span(head, span.tone)))
                current, used, rest = [Span(" " * indent)], indent, rest[len(head) :]
            current.append(Span(rest, span.tone))
            used += cell_len(rest)
    return [*parts, tuple(current)]


def _safe(line: Line | str) -> Line:
    if isinstance(line, str):
        return (Span(safe(line)),)
    return tuple(Span(safe(text), tone) for text, tone in line)
