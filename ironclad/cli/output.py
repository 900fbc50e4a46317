"""Printing: JSON for programs, tables for people; on a terminal with colours, else plain and stable."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ironclad.cli.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

STATE_STYLES: Final[Mapping[str, str]] = {
    "succeeded": "green", "ok": "green", "ready": "green", "done": "green", "loaded": "green",
    "running": "cyan", "starting": "cyan",
    "failed": "red", "quarantined": "red", "broken": "red", "crash_loop": "red", "missing": "red",
    "waiting_retry": "yellow", "degraded": "yellow", "warning": "yellow", "restarting": "yellow", "held": "yellow",
    "skipped": "blue", "reused": "blue", "cancelled": "magenta", "disabled": "dim", "stopped": "dim",
}  # fmt: skip
"""How a state looks; the word itself is always there, so nothing depends on colour."""

_GAP: Final = "  "


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Rich would end the process here, with the exit code of a failure."""
        raise BrokenPipeError


def stdout() -> Console:
    """A console on standard output that takes text literally (no markup, no emoji codes, no highlighting)."""
    return _Console(file=sys.stdout, markup=False, emoji=False, highlight=False, soft_wrap=True)


def stderr() -> Console:
    """The same on standard error, for progress and remarks."""
    return _Console(file=sys.stderr, markup=False, emoji=False, highlight=False, soft_wrap=True)


def print_json(data: Any, *, indent: int | None = 2) -> None:
    """Print data as JSON: times in ISO 8601, paths and ids as text.

    What standard output cannot hold is escaped: characters beyond its encoding, and bytes of names that are no UTF-8.
    """
    said = json.dumps(data, indent=indent, default=plain, ensure_ascii=False)
    try:
        said.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        said = json.dumps(data, indent=indent, default=plain)
    sys.stdout.write(f"{said}\n")
    sys.stdout.flush()


def plain(value: object) -> object:
    """JSON's own types for what it has none for."""
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if isinstance(value, UUID | Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")


@dataclass(slots=True)
class Grid:
    """Rows under headings. Cells come from anywhere and are made harmless here.

    `states` names the column whose words are coloured; `right` the columns of numbers; `wide` the one that gives way
    when the terminal is narrow.
    """

    headings: Sequence[str]
    states: str = ""
    right: frozenset[str] = frozenset()
    wide: str = ""
    rows: list[list[str]] = field(default_factory=list)

    def add(self, *cells: object) -> None:
        """One more row; None is shown as `-`."""
        self.rows.append(["-" if cell is None or cell == "" else printable(cell) for cell in cells])

    def render(self) -> Table:
        """For a terminal."""
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
        for heading in self.headings:
            table.add_column(
                heading, justify="right" if heading in self.right else "left", no_wrap=heading != self.wide,
                overflow="fold" if heading == self.wide else "ellipsis",
            )  # fmt: skip
        for row in self.rows:
            table.add_row(*(self._cell(heading, cell) for heading, cell in zip(self.headings, row, strict=True)))
        return table

    def _cell(self, heading: str, cell: str) -> Text:
        return Text(cell, style=STATE_STYLES.get(cell, "") if heading == self.states else "")

    def lines(self) -> Iterable[str]:
        """For files and pipes: aligned columns, nothing cut off, no line drawings."""
        table = [list(self.headings), *self.rows]
        widths = [max(cell_len(row[index]) for row in table) for index in range(len(self.headings))]
        for row in table:
            cells = []
            for heading, cell, width in zip(self.headings, row, widths, strict=True):
                space = " " * (width - cell_len(cell))
                cells.append(space + cell if heading in self.right else cell + space)
            yield _GAP.join(cells).rstrip()

    def print(self, console: Console | None = None) -> None:
        """Print it on standard output, as fits what that is."""
        console = console or stdout()
        if console.is_terminal:
            console.print(self.render(), soft_wrap=False)
        else:
            for line in self.lines():
                console.print(line)


def say(text: str, *, style: str = "") -> None:
    """One line on standard output."""
    stdout().print(Text(printable(text, lines=True), style=style))


def remark(text: str, *, style: str = "dim") -> None:
    """One line on standard error: for people, never part of the data."""
    stderr().print(Text(printable(text, lines=True), style=style))


def fields(pairs: Iterable[tuple[str, object]]) -> None:
    """Names and values, one a line, aligned."""
    shown = [(name, printable(value, lines=True)) for name, value in pairs if value is not None and value != ""]
    width = max((cell_len(name) for name, _ in shown), default=0)
    console = stdout()
    for name, value in shown:
        line = Text(f"{name}{' ' * (width - cell_len(name))}{_GAP}", style="bold")
        console.print(line.append(Text(value, style=STATE_STYLES.get(value, "not bold"))))
