"""Maintenance: what uses the disk, and what belongs to no job. It only looks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ironclad.cli.text import size
from ironclad_tui.screens.base import CockpitScreen
from ironclad_tui.text import Line, Span, bar, number
from ironclad_tui.widgets.grid import Column, Grid, Row
from ironclad_tui.widgets.lines import Lines

if TYPE_CHECKING:
    from textual.app import ComposeResult

    from ironclad_tui.source import MaintenanceView

_BAR = 20
_COLUMNS = (
    Column("name", "Folder", 16),
    Column("size", "Size", 10, right=True),
    Column("bar", "Share", _BAR, rank=2),
    Column("files", "Files", 10, right=True),
    Column("path", "Path", rank=1),
)


class MaintenanceScreen(CockpitScreen):
    """Folders and leftovers."""

    HEADING = "Maintenance"
    AUTO_FOCUS = "Grid"

    def body(self) -> ComposeResult:
        """The disk, folders, leftovers."""
        yield Lines(id="facts")
        yield Grid(_COLUMNS, id="upper", empty="… counting")
        yield Lines(wrap=True, id="lower")

    def on_screen_resume(self) -> None:
        """Counting files is work: done when the screen is opened, not at every event."""
        super().on_screen_resume()
        self.ask("maintenance", self.source.maintenance, self._show)

    def reload(self) -> None:
        """Only when opened."""

    def _show(self, view: MaintenanceView) -> None:
        disk = view.disk
        low = disk.free < disk.floor
        verdict = " ✗ below the floor: nothing new starts" if low else " ✓ above the floor"
        used = 1 - disk.free / disk.total if disk.total else 0.0
        self.lines("#facts").show(
            [
                (
                    Span(" Disk ", "title"), Span(bar(used, _BAR)), Span(f" {used:.0%} used, {size(disk.free)} free"),
                    Span(f", floor {size(disk.floor)}", "bad" if low else "dim"),
                    Span(verdict, "bad" if low else "good"),
                )
            ]
        )  # fmt: skip
        total = sum(folder.size for folder in view.folders) or 1
        self.query_one(Grid).set_rows(
            [
                Row(
                    folder.name,
                    (
                        Span(folder.name, "strong"), size(folder.size), bar(folder.size / total, _BAR),
                        number(folder.files) + ("" if folder.complete else "+"), folder.path,
                    ),
                )
                for folder in view.folders
            ]
        )  # fmt: skip
        lines: list[Line] = [
            (Span(f" {number(len(view.orphans))} folders in work/ and archive/ belong to no job", "strong"),)
        ]
        lines += [(Span(f"   {name}"),) for name in view.orphans[:100]]
        self.lines("#lower").show(lines)
