"""A table of rows that may go on for ever: it draws what is visible and asks for more when the cursor nears an end."""

from __future__ import annotations

import string
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final

from textual.binding import Binding, BindingType
from textual.message import Message
from textual.strip import Strip

from ironclad_tui.text import Span, safe
from ironclad_tui.widgets.tones import CURSOR, Toned, fit

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from textual import events

_CELL_LIMIT: Final = 400  # characters; no terminal is wider
_NEAR: Final = 30  # rows from an end at which more are asked for
_LEAST_FLEXIBLE: Final = 24


@dataclass(frozen=True, slots=True)
class Column:
    """One column. Without a width it takes what is left; the highest `rank` goes first when there is no room."""

    key: str
    title: str
    width: int | None = None
    right: bool = False
    rank: int = 0


@dataclass(frozen=True, slots=True)
class Row:
    """One row: what it stands for, and a cell for each column."""

    key: Hashable
    cells: tuple[Span | str, ...]


class Grid(Toned, can_focus=True):
    """Rows with a cursor, a selection and letters to jump by.

    Args:
        columns: in their order.
        empty: what to say when there are no rows.
        select: whether rows can be selected.
        id: of the widget.
        classes: of the widget.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("down,j", "move(1)", "Down", show=False),
        Binding("up,k", "move(-1)", "Up", show=False),
        Binding("pagedown,ctrl+d,ctrl+f", "page(1)", "Page down", show=False),
        Binding("pageup,ctrl+u,ctrl+b", "page(-1)", "Page up", show=False),
        Binding("home,g", "edge(-1)", "First", show=False),
        Binding("end,G", "edge(1)", "Last", show=False),
        Binding("enter,right,l", "choose", "Open", show=False),
        Binding("space", "mark", "Select", show=False),
        Binding("apostrophe", "jump", "Jump to a row by its letter", show=False),
        Binding("left_square_bracket", "shift(-1)", "Columns to the left", show=False),
        Binding("right_square_bracket", "shift(1)", "Columns to the right", show=False),
    ]
    DEFAULT_CSS = "Grid { height: 1fr; }"

    class Moved(Message):
        """The cursor is on another row."""

        def __init__(self, grid: Grid, key: Hashable) -> None:
            super().__init__()
            self.grid, self.key = grid, key

        @property
        def control(self) -> Grid:
            """The grid."""
            return self.grid

    class Chosen(Moved):
        """Enter, or a second click."""

    class Marked(Moved):
        """The selection changed."""

    class Edge(Message):
        """The cursor nears an end of the rows: -1 the first, 1 the last; `far`: go to the very end."""

        def __init__(self, grid: Grid, side: int, *, far: bool = False) -> None:
            super().__init__()
            self.grid, self.side, self.far = grid, side, far

        @property
        def control(self) -> Grid:
            """The grid."""
            return self.grid

    def __init__(
        self, columns: Sequence[Column], *, empty: str = "Nothing here.", select: bool = False,
        id: str | None = None, classes: str | None = None,  # noqa: A002 - Textual's name
    ) -> None:  # fmt: skip
        super().__init__(id=id, classes=classes)
        self._columns = tuple(columns)
        self._empty = empty
        self._select = select
        self._rows: tuple[Row, ...] = ()
        # What was made of each given row; it holds the row itself, so that no other can get its id.
        self._made: dict[int, tuple[Row, Row]] = {}
        self._cursor = 0
        self._top = 0
        self._shift = 0
        self._jumping = False
        self._filled = False
        self.marked: set[Hashable] = set()

    # --- content ---

    @property
    def rows(self) -> tuple[Row, ...]:
        """What it holds."""
        return self._rows

    @property
    def cursor_key(self) -> Any:
        """The key of the row under the cursor; None without rows."""
        return self._rows[self._cursor].key if self._rows else None

    @property
    def chosen_keys(self) -> tuple[Any, ...]:
        """The selected rows, or else the one under the cursor."""
        if self.marked:
            return tuple(self.marked)
        return (self.cursor_key,) if self._rows else ()

    @property
    def visible_keys(self) -> tuple[Any, ...]:
        """The rows on the screen, in their order."""
        return tuple(row.key for row in self._rows[self._top : self._top + self._page])

    def set_columns(self, columns: Sequence[Column]) -> None:
        """Other columns; rows that fit them must follow."""
        self._columns = tuple(columns)
        self._rows = ()
        self.refresh()

    def set_empty(self, text: str) -> None:
        """What to say when there are no rows."""
        self._empty = text
        self.refresh()

    def set_rows(self, rows: Sequence[Row], *, cursor: Hashable = None) -> None:
        """Replace the rows; the cursor stays on its row, or goes to the one of key `cursor`."""
        made = self._made
        self._made = {id(row): (row, made[id(row)][1] if id(row) in made else _safe_row(row)) for row in rows}
        shown = tuple(self._made[id(row)][1] for row in rows)
        if shown == self._rows and cursor is None and self._filled:
            return
        self._filled = True
        wanted = self.cursor_key if cursor is None else cursor
        above = self._cursor - self._top
        index = next((i for i, row in enumerate(shown) if row.key == wanted), None)
        self._rows = shown
        self._cursor = min(self._cursor if index is None else index, max(0, len(shown) - 1))
        self._top = self._cursor - above
        self._settle()

    def clear_marks(self) -> None:
        """Select nothing."""
        self.marked.clear()
        self.refresh()

    # --- drawing ---

    @property
    def _page(self) -> int:
        return max(1, self.size.height - 1)

    def _settle(self) -> None:
        """Keep the cursor on the screen."""
        last = max(0, len(self._rows) - self._page)
        self._top = max(0, min(self._top, last))
        if self._cursor < self._top:
            self._top = self._cursor
        elif self._cursor >= self._top + self._page:
            self._top = self._cursor - self._page + 1
        self.refresh()

    def on_resize(self) -> None:
        """Another size."""
        self._settle()

    def on_focus(self) -> None:
        """The cursor looks different."""
        self.refresh()

    def on_blur(self) -> None:
        """Letters go with the focus."""
        self._jumping = False
        self.refresh()

    def layout_columns(self, width: int) -> list[tuple[int, Column, int]]:
        """The columns that fit into `width` cells: index, column and width of each."""
        shown = [(i, c) for i, c in enumerate(self._columns) if i == 0 or i > self._shift]
        while True:
            fixed = sum((c.width or _LEAST_FLEXIBLE) + 1 for _, c in shown)
            if fixed <= width or len(shown) == 1:
                break
            ranked = max((c.rank for _, c in shown[1:]), default=0)
            victim = max(i for i, (_, c) in enumerate(shown) if i and c.rank == ranked)
            del shown[victim]
        flexible = sum(c.width is None for _, c in shown)
        left = width - sum(c.width + 1 for _, c in shown if c.width is not None) - flexible
        widths = []
        for index, column in shown:
            if column.width is not None:
                widths.append((index, column, column.width))
            else:
                share = max(1, left // flexible)
                widths.append((index, column, share))
                left, flexible = left - share, flexible - 1
        return widths

    def render_line(self, y: int) -> Strip:
        """The head, then the visible rows."""
        width = self.size.width
        margin = 2
        columns = self.layout_columns(width - margin)
        if y == 0:
            cells = [Span(f"{fit(c.title, w, right=c.right)} ", "head") for _, c, w in columns]
            return self.strip([Span("  "), *cells], width)
        index = self._top + y - 1
        if index >= len(self._rows):
            if y == 1 and not self._rows:
                return self.strip([Span(f"  {self._empty if self._filled else '… reading'}", "dim")], width)
            return Strip.blank(width, self.base_style)
        row = self._rows[index]
        spans = [Span(self._margin(index, y), "mark")]
        for i, column, w in columns:
            cell = row.cells[i] if i < len(row.cells) else Span("")
            text, tone = cell if isinstance(cell, Span) else (cell, "")
            spans.append(Span(f"{fit(text, w, right=column.right)} ", tone))
        on = index == self._cursor
        return self.strip(spans, width, CURSOR if on and self.has_focus else None)

    def _margin(self, index: int, y: int) -> str:
        if self._jumping and y <= len(string.ascii_lowercase):
            return f"{string.ascii_lowercase[y - 1]} "
        cursor = ">" if index == self._cursor else " "
        return cursor + ("*" if self._rows[index].key in self.marked else " ")

    # --- keys and mouse ---

    def _go(self, cursor: int) -> None:
        if not self._rows:
            return
        before = self._cursor
        self._cursor = max(0, min(cursor, len(self._rows) - 1))
        self._settle()
        if self._cursor != before:
            self.post_message(self.Moved(self, self.cursor_key))
        if self._cursor < _NEAR and cursor <= before:
            self.post_message(self.Edge(self, -1))
        if self._cursor >= len(self._rows) - _NEAR and cursor >= before:
            self.post_message(self.Edge(self, 1))

    def action_move(self, rows: int) -> None:
        """Move the cursor."""
        self._go(self._cursor + rows)

    def action_page(self, pages: int) -> None:
        """Move it by pages."""
        self._go(self._cursor + pages * self._page)

    def action_edge(self, side: int) -> None:
        """Move it to the very first or last row."""
        self._go(len(self._rows) - 1 if side > 0 else 0)
        self.post_message(self.Edge(self, side, far=True))

    def action_choose(self) -> None:
        """Open the row."""
        if self._rows:
            self.post_message(self.Chosen(self, self.cursor_key))

    def action_mark(self) -> None:
        """Select or unselect the row, and go on to the next."""
        if self._select and self._rows:
            self.marked ^= {self.cursor_key}
            self.post_message(self.Marked(self, self.cursor_key))
            self._go(self._cursor + 1)
            self.refresh()

    def action_shift(self, columns: int) -> None:
        """Scroll sideways by whole columns; the first one stays."""
        self._shift = max(0, min(self._shift + columns, len(self._columns) - 2))
        self.refresh()

    def action_jump(self) -> None:
        """Show a letter at each row; the next letter typed goes there."""
        self._jumping = bool(self._rows)
        self.refresh()

    def on_key(self, event: events.Key) -> None:
        """The letter of a jump; any other key ends it."""
        if not self._jumping or event.key == "apostrophe":
            return
        self._jumping = False
        self.refresh()
        if event.character and event.character in string.ascii_lowercase:
            event.stop()
            event.prevent_default()
            self._go(self._top + string.ascii_lowercase.index(event.character))

    def on_click(self, event: events.Click) -> None:
        """A click moves the cursor, a second one opens."""
        if event.y < 1 or self._top + event.y - 1 >= len(self._rows):
            return
        self._go(self._top + event.y - 1)
        if event.chain > 1:
            self.action_choose()

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        """The wheel."""
        event.stop()
        self._go(self._cursor + 3)

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        """The wheel."""
        event.stop()
        self._go(self._cursor - 3)


def _safe_row(row: Row) -> Row:
    return Row(row.key, tuple(_safe(cell) for cell in row.cells))


def _safe(cell: Span | str) -> Span:
    text, tone = cell if isinstance(cell, Span) else (cell, "")
    return Span(safe(text, _CELL_LIMIT), tone)
