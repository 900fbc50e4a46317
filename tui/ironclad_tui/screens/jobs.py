"""Jobs: a list that scrolls over any number of them, with a filter, orders, a selection and views."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, ClassVar, Final

from textual.binding import Binding, BindingType
from textual.widgets import Input

from ironclad.cli.text import ago, duration, short_id
from ironclad.jobs.listing import Count, JobRow, Sort
from ironclad.jobs.search import Filter, FilterError, parse
from ironclad_tui.prefs import BUILT_IN_VIEWS
from ironclad_tui.screens.base import CockpitScreen
from ironclad_tui.screens.dialogs import Ask, Choose
from ironclad_tui.text import Span, number, state
from ironclad_tui.widgets.grid import Column, Grid, Row
from ironclad_tui.widgets.lines import Lines
from ironclad_tui.window import Window

if TYPE_CHECKING:
    from uuid import UUID

    from textual.app import ComposeResult

COLUMNS: Final = (
    Column("state", "State", 15),
    Column("name", "Title"),
    Column("user", "User", 8, rank=2),
    Column("stage", "Stage", 10, rank=4),
    Column("done", "Done", 5, right=True, rank=5),
    Column("error", "Error", 18, rank=1),
    Column("received", "Received", 11, right=True, rank=3),
    Column("id", "Job", 8, rank=6),
    Column("engine", "Engine", 10, rank=7),
    Column("length", "Length", 12, right=True, rank=8),
    Column("attempt", "Try", 3, right=True, rank=9),
    Column("album", "Album", 20, rank=10),
)
DEFAULT_COLUMNS: Final = ("state", "name", "user", "stage", "done", "error", "received", "id")


class JobsScreen(CockpitScreen):
    """The list."""

    HEADING = "Jobs"
    AUTO_FOCUS = "Grid"
    BINDINGS: ClassVar[list[BindingType]] = [
        # With priority it acts before the next key is looked at: what is typed after it goes into the filter.
        Binding("slash", "filter", "Filter", priority=True),
        Binding("s", "sort", "Sort"),
        Binding("r", "act('retry')", "Retry"),
        Binding("R", "replay", "Replay", show=False),
        Binding("c", "act('cancel')", "Cancel"),
        Binding("o", "act('hold')", "Hold", show=False),
        Binding("O", "act('release')", "Release", show=False),
        Binding("v", "views", "Views"),
        Binding("V", "save_view", "Save this view", show=False),
        Binding("C", "columns", "Columns", show=False),
        Binding("a", "unmark", "Select none", show=False),
        Binding("escape", "clear", "Clear the filter", show=False),
    ]

    def __init__(self) -> None:
        super().__init__()
        self.wanted = Filter()
        self.sort = Sort.NEWEST
        self.count: Count | None = None
        self.window = Window()
        self._made: dict[UUID, tuple[tuple[JobRow, str, list[str]], Row]] = {}

    def body(self) -> ComposeResult:
        """Filter, its error, the list, a line about it."""
        yield Input(placeholder='state:failed user:ana "kind of blue" since:2d', id="filter", compact=True)
        yield Lines(id="filter-error")
        yield Grid(self._columns(), select=True, id="jobs", empty="No jobs yet: drop music into the watch root.")
        yield Lines(id="status")

    def furnish(self) -> None:
        """Lines are no stop of the tab key."""
        super().furnish()
        self.lines("#status").can_focus = self.lines("#filter-error").can_focus = False

    @property
    def grid(self) -> Grid:
        """The list's widget."""
        return self.query_one("#jobs", Grid)

    def _columns(self) -> list[Column]:
        chosen = self.cockpit.prefs.columns or DEFAULT_COLUMNS
        return [column for column in COLUMNS if column.key in chosen or column.key in {"state", "name"}]

    # --- reading ---

    def reload(self) -> None:
        """What is on the screen, anew: at the top new jobs come in, elsewhere only the rows in view change."""
        wanted, sort = self.wanted, self.sort
        if self.window.at_top:
            limit = self.window.refresh_limit
            self.ask("page", lambda: self.source.jobs(wanted, sort, limit=limit), lambda rows: self._top(rows, limit))
        else:
            ids = self.grid.visible_keys
            self.ask("rows", lambda: self.source.rows(ids), lambda rows: self._updated(ids, rows))
        self.ask("count", lambda: self.source.count(wanted), self._counted)

    def restart(self, *, end: bool = False) -> None:
        """From the top (or the end) with another filter or order."""
        wanted, sort = self.wanted, self.sort
        self.window = Window()
        limit = self.window.page

        def first(rows: tuple[JobRow, ...]) -> None:
            if end:
                self.window.set_end(rows, limit)
                self._show(cursor=rows[-1].job_uuid if rows else None)
            else:
                self._top(rows, limit, cursor=rows[0].job_uuid if rows else None)

        self.ask("page", lambda: self.source.jobs(wanted, sort, backwards=end, limit=limit), first)
        self.ask("count", lambda: self.source.count(wanted), self._counted)

    def _top(self, rows: tuple[JobRow, ...], limit: int, cursor: UUID | None = None) -> None:
        self.window.set_top(rows, limit)
        self._show(cursor=cursor)

    def _updated(self, ids: tuple[UUID, ...], rows: tuple[JobRow, ...]) -> None:
        self.window.update(ids, rows)
        self._show()

    def _counted(self, count: Count) -> None:
        self.count = count
        self._status()

    def _show(self, cursor: UUID | None = None) -> None:
        now = self.source.now()
        keys = [column.key for column in self._columns()]
        self.grid.set_empty(
            "No job matches the filter." if self.wanted.terms else "No jobs yet: drop music into the watch root."
        )
        made = self._made
        self._made = {}
        for row in self.window.rows:
            received = ago(row.created_at, now)
            known = made.get(row.job_uuid)
            if known is None or known[0] != (row, received, keys):
                known = ((row, received, keys), _row(row, keys, received))
            self._made[row.job_uuid] = known
        self.grid.set_rows([row for _, row in self._made.values()], cursor=cursor)
        self._status()

    def _status(self) -> None:
        count = "…" if self.count is None else f"{number(self.count.number)}{'' if self.count.exact else '+'}"
        spans = [Span(f" {count} jobs", "strong"), Span(f" · {self.sort.value} first")]
        if self.wanted.text:
            spans += [Span(" · filter ", "dim"), Span(self.wanted.text)]
        if self.grid.marked:
            spans.append(Span(f" · {len(self.grid.marked)} selected", "mark"))
        self.lines("#status").show([tuple(spans)])

    def on_grid_edge(self, message: Grid.Edge) -> None:
        """The cursor nears an end: the next page."""
        if message.far and not self.window.holds_edge(message.side):
            self.restart(end=message.side > 0)
            return
        key = self.window.key_beyond(message.side, self.sort)
        if key is None:
            return
        wanted, sort, window = self.wanted, self.sort, self.window
        limit = window.page

        def more(rows: tuple[JobRow, ...]) -> None:
            if window is self.window:
                window.extend(message.side, rows, limit)
                self._show()

        self.ask(
            "page",
            lambda: self.source.jobs(wanted, sort, after=key, backwards=message.side < 0, limit=limit),
            more,
        )

    def on_grid_marked(self) -> None:
        """Say how many."""
        self._status()

    def on_grid_chosen(self, message: Grid.Chosen) -> None:
        """Enter opens the job."""
        self.cockpit.open_job(message.key)  # type: ignore[arg-type]  # an id by construction

    # --- filter ---

    def action_filter(self) -> None:
        """Type a filter."""
        line = self.query_one("#filter", Input)
        line.display = True
        line.value = self.wanted.text
        line.cursor_position = len(line.value)
        self.set_focus(line)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """A slash in the filter is a slash."""
        if action == "filter":
            return not isinstance(self.focused, Input)
        return super().check_action(action, parameters)

    def on_input_changed(self, message: Input.Changed) -> None:
        """Show what is wrong while it is typed."""
        try:
            parse(message.value, self.source.now())
        except FilterError as exc:
            self._filter_error(exc)
        else:
            self._filter_error(None)

    def _filter_error(self, error: FilterError | None) -> None:
        lines = self.lines("#filter-error")
        lines.set_class(error is not None, "-open")
        if error is not None:
            lines.show([(Span(f" {error.pointer()}", "bad"),), (Span(f" {error.detail}", "bad"),)])

    def on_input_submitted(self, message: Input.Submitted) -> None:
        """Use it, unless something is wrong with it."""
        try:
            self.use_filter(message.value)
        except FilterError as exc:
            self._filter_error(exc)
        else:
            self._close_filter()

    def use_filter(self, text: str) -> None:
        """Another filter. Raises `FilterError`."""
        self.wanted = parse(text, self.source.now())
        self.grid.clear_marks()
        self.restart()

    def _close_filter(self) -> None:
        self.query_one("#filter", Input).display = False
        self._filter_error(None)
        self.grid.focus()

    def action_clear(self) -> None:
        """Leave the filter line; with it closed, drop the filter."""
        if self.query_one("#filter", Input).display:
            self._close_filter()
        elif self.wanted.terms:
            self.use_filter("")

    # --- orders, views, columns ---

    def action_sort(self) -> None:
        """The next order."""
        orders = list(Sort)
        self.sort = orders[(orders.index(self.sort) + 1) % len(orders)]
        self.restart()

    def action_views(self) -> None:
        """A saved filter."""
        views = {**BUILT_IN_VIEWS, **self.cockpit.prefs.views}
        self.cockpit.choose("View", list(views.items()), lambda name: self.use_filter(views[name]))

    def action_save_view(self) -> None:
        """Keep this filter under a name."""

        def named(name: str | None) -> None:
            if name:
                self.cockpit.prefs.views[name] = self.wanted.text
                self._keep(f"View {name} is saved; [v] lists the views.")

        self.app.push_screen(Ask("Name of this view"), named)

    def action_columns(self) -> None:
        """Show or hide a column."""
        shown = {column.key for column in self._columns()}
        options = [(c.key, "shown" if c.key in shown else "hidden") for c in COLUMNS if c.key not in {"state", "name"}]

        def chosen(key: str | None) -> None:
            if key is not None:
                keys = shown ^ {key}
                self.cockpit.prefs.columns = tuple(c.key for c in COLUMNS if c.key in keys)
                self._keep(f"Column {key} is {'shown' if key in keys else 'hidden'}.")
                self.grid.set_columns(self._columns())
                self._show()

        self.app.push_screen(Choose("Column", options, chosen="user"), chosen)

    def _keep(self, text: str) -> None:
        with contextlib.suppress(OSError):
            self.cockpit.prefs.save()
        self.cockpit.say(text)

    # --- actions ---

    def action_act(self, action: str) -> None:
        """On the selected jobs, or the one under the cursor."""
        self.cockpit.actions.start(action, self.grid.chosen_keys)

    def action_replay(self) -> None:
        """From a stage, with an engine."""
        jobs = self.grid.chosen_keys
        self.ask("engines", self.source.engines, lambda found: self.cockpit.actions.replay(
            jobs, [engine.name for engine in found if not engine.error]))  # fmt: skip

    def action_unmark(self) -> None:
        """Select nothing."""
        self.grid.clear_marks()
        self._status()


def _row(row: JobRow, keys: list[str], received: str) -> Row:
    cells: dict[str, Any] = {
        "state": state(row.shown_state),
        "name": row.name,
        "user": row.user_id,
        "stage": row.stage if row.state == "running" or row.error_code else "",
        "done": f"{row.progress:.0%}" if row.state == "running" else "",
        "error": row.error_code or "",
        "received": received,
        "id": short_id(row.job_uuid),
        "engine": row.engine,
        "length": "" if row.duration_seconds is None else duration(row.duration_seconds),
        "attempt": str(row.attempt),
        "album": row.album or "",
    }
    return Row(row.job_uuid, tuple(cells[key] for key in keys))
