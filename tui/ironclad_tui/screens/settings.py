"""Settings: every value in force, where it came from, what it means."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ironclad_tui.screens.base import CockpitScreen, fields, heading
from ironclad_tui.text import Span
from ironclad_tui.widgets.grid import Column, Grid, Row
from ironclad_tui.widgets.lines import Lines

if TYPE_CHECKING:
    from textual.app import ComposeResult

    from ironclad_tui.source import SettingView

_COLUMNS = (
    Column("path", "Setting", 30),
    Column("value", "Value"),
    Column("origin", "Origin", 34, rank=1),
)


class SettingsScreen(CockpitScreen):
    """Read only: settings are changed in their file or the environment."""

    HEADING = "Settings"
    AUTO_FOCUS = "Grid"

    def __init__(self) -> None:
        super().__init__()
        self._settings: dict[str, SettingView] = {}

    def body(self) -> ComposeResult:
        """All above, one below."""
        yield Grid(_COLUMNS, id="upper")
        yield Lines(wrap=True, id="lower")

    def reload(self) -> None:
        """They do not change while the cockpit runs."""
        if not self._settings:
            self.ask("settings", self.source.settings, self._show)

    def _show(self, settings: tuple[SettingView, ...]) -> None:
        self._settings = {one.path: one for one in settings}
        self.query_one(Grid).set_rows(
            [
                Row(
                    one.path,
                    (
                        Span(one.path, "" if one.origin == "default" else "strong"), one.value,
                        Span(one.origin, "dim" if one.origin == "default" else ""),
                    ),
                )
                for one in settings
            ]
        )  # fmt: skip
        self.on_grid_moved()

    def on_grid_moved(self) -> None:
        """Another setting."""
        one = self._settings.get(self.query_one(Grid).cursor_key)
        if one is None:
            self.lines("#lower").show([])
            return
        name = "IRONCLAD_" + one.path.replace(".", "__").upper()
        self.lines("#lower").show(
            [
                heading(one.path),
                *fields([("Help", one.help), ("Value", one.value), ("Origin", one.origin), ("Environment", name)]),
            ]
        )
