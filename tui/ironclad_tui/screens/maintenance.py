"""Maintenance: what uses the disk, and what belongs to no job. It only looks."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType

from ironclad.cli.text import size
from ironclad_tui.screens.base import CockpitScreen, heading
from ironclad_tui.text import Line, Span, bar, below, number
from ironclad_tui.widgets.grid import Column, Grid, Row
from ironclad_tui.widgets.lines import Lines

if TYPE_CHECKING:
    from textual.app import ComposeResult

    from ironclad_tui.source import Finding, MaintenanceView

_BAR = 20
_MOST = 200
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
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("d", "prunable", "Prune dry run"),
        Binding("o", "orphans", "Orphans"),
    ]

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
        verdict = " ✗ too full: nothing new starts" if low else " ✓"
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
                        number(folder.files) + ("" if folder.complete else "+"),  below(self.source.root, folder.path),
                    ),
                )
                for folder in view.folders
            ]
        )  # fmt: skip
        lines: list[Line] = [
            (Span(f" {number(len(view.orphans))} folders in work/ and archive/ belong to no job", "strong"),)
        ]
        lines += [(Span(f"   {name}"),) for name in view.orphans[:100]]
        lines.append((Span(" [d] what pruning would delete   [o] files that are out of place", "dim"),))
        self.lines("#lower").show(lines)

    def action_prunable(self) -> None:
        """What pruning would delete now."""
        self.lines("#lower").show([" … looking what the rules of prune.* would let go"])
        self.ask("prunable", self.source.prunable, self._pruned)

    def _pruned(self, found: tuple[Finding, ...]) -> None:
        total = sum(one.bytes or 0 for one in found)
        head = f"Pruning would delete {number(len(found))} things, {size(total)}; nothing was deleted"
        todo = "`ironclad prune` deletes them; the dispatcher does so by itself, every prune.every_hours."
        self._list(head, found, todo)

    def action_orphans(self) -> None:
        """What is where it should not be, or is not where it should be."""
        self.lines("#lower").show([" … comparing folders and jobs"])
        self.ask("orphans", self.source.orphans, self._orphaned)

    def _orphaned(self, found: tuple[Finding, ...]) -> None:
        if not found:
            self._list("Every file has its job, and every job its files", (), "")
            return
        todo = "`ironclad orphans --fix` moves what is in the way to orphaned/, with the reason."
        self._list(f"{number(len(found))} orphans", found, todo)

    def _list(self, head: str, found: tuple[Finding, ...], todo: str) -> None:
        lines: list[Line] = [heading(head)]
        if found:
            lines.append((Span(f" {todo}", "dim"),))
        for one in found[:_MOST]:
            room = "" if one.bytes is None else f"{size(one.bytes):>9}  "
            lines.append(
                (Span(f" {one.kind:<10}", "warn"), Span(f" {room}"), Span(one.path), Span(f"  {one.reason}", "dim"))
            )
            if one.todo:
                lines.append((Span(f"{'':<12}", "dim"), Span(one.todo, "dim")))
        if len(found) > _MOST:
            lines.append((Span(f" and {number(len(found) - _MOST)} more", "dim"),))
        widget = self.lines("#lower")
        widget.show(lines)
        widget.action_scroll_edge(-1)
        widget.focus()
