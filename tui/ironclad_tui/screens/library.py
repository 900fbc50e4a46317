"""Library: what was published last, and names that servers will not like."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType

from ironclad.cli.text import ago, size
from ironclad_tui.screens.base import CockpitScreen
from ironclad_tui.text import Line, Span, below, number, state
from ironclad_tui.widgets.grid import Column, Grid, Row
from ironclad_tui.widgets.lines import Lines

if TYPE_CHECKING:
    from collections.abc import Sequence

    from textual.app import ComposeResult

    from ironclad_tui.source import LibraryView

_MOST = 200
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
    BINDINGS: ClassVar[list[BindingType]] = [Binding("L", "lint", "Lint everything")]

    def __init__(self) -> None:
        super().__init__()
        self._linted: list[Line] | None = None

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
                    (ago(file.published_at, now), self._shown(file.path), file.kind, size(file.size)),
                )
                for file in view.files
            ]
        )
        lines: list[Line] = [(Span(f" Problems in the last {len(view.files)} files: {number(len(view.problems))}"),)]
        lines += _problems(view.problems)
        self.lines("#lower").show(self._linted or lines)

    def _shown(self, path: str) -> str:
        return below(f"{self.source.root}/output", path)

    def action_lint(self) -> None:
        """Read every file, and say what media servers would get wrong."""
        self.lines("#lower").show([" … reading the tags of every file"])
        self.ask("lint", self.source.lint, self._lint)

    def _lint(self, found: tuple[int, tuple[tuple[str, str, str, str], ...]]) -> None:
        files, problems = found
        head = f" {number(files)} files read: {number(len(problems))} problems"
        self._linted = [(Span(head, "strong"),), *_problems(problems[:_MOST])]
        if len(problems) > _MOST:
            self._linted.append((Span(" `ironclad library lint` lists them all", "dim"),))
        widget = self.lines("#lower")
        widget.show(self._linted)
        widget.focus()

    def on_grid_chosen(self, message: Grid.Chosen) -> None:
        """Enter opens the job that made the file."""
        key = message.key
        if isinstance(key, tuple):
            self.cockpit.open_job(key[1])


def _problems(found: Sequence[tuple[str, str, str, str]]) -> list[Line]:
    lines: list[Line] = []
    for severity, rule, server, message in found:
        mark = state(severity)
        lines.append((Span(f" {mark.text:<10}", mark.tone), Span(f" {rule} ({server}): "), Span(message)))
    return lines
