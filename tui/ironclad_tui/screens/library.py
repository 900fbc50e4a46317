"""Library: what was published last, and names that servers will not like."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ironclad.cli.text import ago, size
from ironclad_tui.screens.base import CockpitScreen
from ironclad_tui.text import Line, Span, number, state
from ironclad_tui.widgets.grid import Column, Grid, Row
from ironclad_tui.widgets.lines import Lines

if TYPE_CHECKING:
    from textual.app import ComposeResult

    from ironclad_tui.source import LibraryView

_COLUMNS = (
    Column("at", "Published", 11, right=True),
    Column("path", "File"),
    Column("kind", "Stem", 13, rank=1),
    Column("size", "Size", 9, right=True, rank=2),
)


class LibraryScreen(CockpitScreen):
    """The last files, newest first."""

    HEADING = "Library"
    AUTO_FOCUS = "Grid"

    def body(self) -> ComposeResult:
        """Files above, problems below."""
        yield Grid(_COLUMNS, id="upper", empty="Nothing has been published yet.")
        yield Lines(wrap=True, id="lower")

    def reload(self) -> None:
        """Ask."""
        self.ask("library", self.source.library, self._show)

    def _show(self, view: LibraryView) -> None:
        now = self.source.now()
        self.query_one(Grid).set_rows(
            [
                Row(
                    (file.artifact_uuid, file.job_uuid),
                    (ago(file.published_at, now), file.path, file.kind, size(file.size)),
                )
                for file in view.files
            ]
        )
        lines: list[Line] = [(Span(f" Problems in the last {len(view.files)} files: {number(len(view.problems))}"),)]
        for severity, rule, server, message in view.problems:
            mark = state(severity)
            lines.append((Span(f" {mark.text:<10}", mark.tone), Span(f" {rule} ({server}): "), Span(message)))
        self.lines("#lower").show(lines)

    def on_grid_chosen(self, message: Grid.Chosen) -> None:
        """Enter opens the job that made the file."""
        key = message.key
        if isinstance(key, tuple):
            self.cockpit.open_job(key[1])
