"""The line of keys at the bottom of every screen, drawn as one line.

Textual's own footer is a widget for each key, made anew with every change of screen or focus: half of what a screen
costs. What it shows and what a click does are the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len

from ironclad_tui.text import Span
from ironclad_tui.widgets.tones import Toned

if TYPE_CHECKING:
    from textual import events
    from textual.screen import Screen
    from textual.strip import Strip


@dataclass(frozen=True, slots=True)
class _Key:
    name: str
    shown: str
    title: str
    enabled: bool
    begin: int
    """The column where it begins."""

    @property
    def end(self) -> int:
        """The column after it."""
        return self.begin + cell_len(self.shown) + 1 + cell_len(self.title)


class Keys(Toned, can_focus=False):
    """The keys that do something now, from the bindings themselves; a click presses one."""

    DEFAULT_CSS = "Keys { dock: bottom; height: 1; background: $panel; }"

    def __init__(self) -> None:
        super().__init__()
        self._keys: tuple[_Key, ...] = ()

    def on_mount(self) -> None:
        """Hear of other bindings."""
        self.screen.bindings_updated_signal.subscribe(self, self._changed)
        self._read()

    def _changed(self, screen: Screen[Any]) -> None:
        if self.is_attached and screen is self.screen and screen.app.app_focus:
            self._read()

    def _read(self) -> None:
        found: dict[str, _Key] = {}
        column = 0
        for _, binding, enabled, _ in self.screen.active_bindings.values():
            if binding.show and binding.action not in found:
                shown = self.app.get_key_display(binding)
                one = found[binding.action] = _Key(binding.key, shown, binding.description, enabled, column)
                column = one.end + 1
        keys = tuple(found.values())
        if keys != self._keys:
            self._keys = keys
            self.refresh()

    def render_line(self, y: int) -> Strip:  # noqa: ARG002 - there is one line
        """All keys that fit."""
        spans: list[Span] = []
        for key in self._keys:
            mark, word = ("mark", "") if key.enabled else ("dim", "dim")
            spans += [Span(key.shown, mark), Span(f" {key.title} ", word)]
        return self.strip(spans, self.size.width)

    def on_click(self, event: events.Click) -> None:
        """As if the key had been pressed."""
        for key in self._keys:
            if key.begin <= event.x < key.end and key.enabled:
                self.app.simulate_key(key.name)
