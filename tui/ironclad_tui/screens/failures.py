"""Failures: a thousand of one cause are one line, with the cause and the fix in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType

from ironclad.cli.text import ago
from ironclad_tui.screens.base import CockpitScreen, fields, heading
from ironclad_tui.text import Line, Span, number
from ironclad_tui.widgets.grid import Column, Grid, Row
from ironclad_tui.widgets.lines import Lines

if TYPE_CHECKING:
    from uuid import UUID

    from textual.app import ComposeResult

    from ironclad.jobs.failures import FailureGroup

_COLUMNS = (
    Column("jobs", "Jobs", 7, right=True),
    Column("code", "Error", 20),
    Column("what", "What happened"),
    Column("stage", "Stage", 10, rank=1),
    Column("last", "Last", 11, right=True, rank=2),
    Column("kind", "Kind", 10, rank=3),
)


class FailuresScreen(CockpitScreen):
    """Groups of failed jobs."""

    HEADING = "Failures"
    AUTO_FOCUS = "Grid"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("r", "retry_one", "Retry last one"),
        Binding("R", "retry_group", "Retry group"),
        Binding("A", "retry_all", "Retry all"),
        Binding("slash", "list", "List jobs"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self.groups: tuple[FailureGroup, ...] = ()

    def body(self) -> ComposeResult:
        """Groups above, the cause below."""
        yield Grid(_COLUMNS, id="upper", empty="Nothing has failed.")
        yield Lines(wrap=True, id="lower")

    def reload(self) -> None:
        """Ask."""
        self.ask("failures", self.source.failures, self._show)

    def _show(self, groups: tuple[FailureGroup, ...]) -> None:
        self.groups = groups
        now = self.source.now()
        self.query_one(Grid).set_rows(
            [
                Row(
                    group.key,
                    (
                        Span(number(group.jobs), "strong"), Span(f"✗ {group.code}", "bad"), group.what, group.stage,
                        ago(group.last_at, now), group.kind,
                    ),
                )
                for group in groups
            ]
        )  # fmt: skip
        self._explain()

    @property
    def group(self) -> FailureGroup | None:
        """The group under the cursor."""
        key = self.query_one(Grid).cursor_key
        return next((group for group in self.groups if group.key == key), None)

    def on_grid_moved(self) -> None:
        """Another group."""
        self._explain()

    def _explain(self) -> None:
        group = self.group
        if group is None:
            self.lines("#lower").show([])
            return
        now = self.source.now()
        lines: list[Line] = [
            heading(f"{group.code}: {group.what}"),
            *fields(
                [
                    ("What to do", Span(group.hint, "strong")),
                    ("Last detail", group.detail),
                    ("Where", f"stage {group.stage}" + (f", place {group.fingerprint}" if group.fingerprint else "")),
                    ("When", f"first {ago(group.first_at, now)}, last {ago(group.last_at, now)}"),
                    ("Jobs", number(group.jobs)),
                ]
            ),
        ]
        self.lines("#lower").show(lines)

    def on_grid_chosen(self, _: Grid.Chosen) -> None:
        """Enter opens the last job of the group."""
        if self.group is not None:
            self.cockpit.open_job(self.group.example)

    def action_list(self) -> None:
        """All jobs of the group, in the list."""
        group = self.group
        if group is None:
            return
        text = f"state:failed,quarantined error:{group.code} stage:{group.stage}"
        self.cockpit.list_jobs(text)

    def action_retry_one(self) -> None:
        """The last of the group: a trial."""
        if self.group is not None:
            self.cockpit.actions.start("retry", [self.group.example])

    def action_retry_group(self) -> None:
        """All of the group."""
        if self.group is not None:
            self._retry([self.group])

    def action_retry_all(self) -> None:
        """All of all groups."""
        if self.groups:
            self._retry(list(self.groups))

    def _retry(self, groups: list[FailureGroup]) -> None:
        def members() -> list[UUID]:
            return [job for group in groups for job in self.source.members(group.key)]

        self.ask("members", members, lambda jobs: self.cockpit.actions.start("retry", jobs))
