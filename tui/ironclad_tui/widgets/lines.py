"""Lines of text that scroll: panels, details, logs."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType
from textual.strip import Strip

from ironclad_tui.text import Line, Span, safe
from ironclad_tui.widgets.tones import Toned

if TYPE_CHECKING:
    from collections.abc import Iterable

    from textual import events


class Lines(Toned, can_focus=True):
    """Shows lines; scrolls when they do not fit, by the keys of `less`.

    Args:
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

    def __init__(self, *, follow: bool = False, id: str | None = None, classes: str | None = None) -> None:  # noqa: A002 - Textual's name
        super().__init__(id=id, classes=classes)
        self._lines: tuple[Line, ...] = ()
        self._follow = follow
        self._top = 0

    def show(self, lines: Iterable[Line | str]) -> None:
        """Replace the lines; nothing is drawn if they are the same."""
        shown = tuple(_safe(line) for line in lines)
        if shown == self._lines:
            return
        taller = len(shown) != len(self._lines)
        self._lines = shown
        self._top = self._bounded(len(shown) if self._follow else self._top)
        self.refresh(layout=taller and self.styles.auto_dimensions)

    @property
    def text(self) -> str:
        """What is shown, for tests and copying."""
        return "\n".join("".join(span.text for span in line) for line in self._lines)

    def get_content_height(self, container: object, viewport: object, width: int) -> int:  # noqa: ARG002 - Textual's signature
        """As many lines as there are."""
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


def _safe(line: Line | str) -> Line:
    if isinstance(line, str):
        return (Span(safe(line)),)
    return tuple(Span(safe(text), tone) for text, tone in line)
