"""Health: what every service says of its parts, what could not be told to anybody, and what to do."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, ClassVar
from uuid import UUID

from textual.binding import Binding, BindingType

from ironclad.cli.text import ago
from ironclad.errors import IroncladError
from ironclad_tui.screens.base import CockpitScreen, fields, heading
from ironclad_tui.text import Line, Span, number, state
from ironclad_tui.widgets.grid import Column, Grid, Row
from ironclad_tui.widgets.lines import Lines

if TYPE_CHECKING:
    from textual.app import ComposeResult

    from ironclad.notify.query import MessageView
    from ironclad.ops.looking import ComponentHealth

_COLUMNS = (
    Column("state", "State", 12),
    Column("service", "Service", 14),
    Column("component", "Part", 18),
    Column("detail", "Detail"),
    Column("since", "Since", 11, right=True, rank=1),
)
_WELL = 2


class HealthScreen(CockpitScreen):
    """Services of this machine, part by part, and notifications that were given up."""

    HEADING = "Health"
    AUTO_FOCUS = "Grid"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("r", "resend", "Send again"),
        Binding("x", "drop", "Dismiss"),
        Binding("R", "resend(True)", "Send all again"),
        Binding("X", "drop(True)", "Dismiss all", show=False),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._parts: dict[tuple[str, str], ComponentHealth] = {}
        self._letters: dict[UUID, MessageView] = {}

    def body(self) -> ComposeResult:
        """Parts above, the remedy below."""
        yield Grid(_COLUMNS, id="upper", empty="No service runs on this machine: `ironclad up` starts them.")
        yield Lines(wrap=True, id="lower")

    def reload(self) -> None:
        """Ask the services, and the database for what was given up."""
        self.ask("health", self._look, self._seen)

    def _look(self) -> tuple[tuple[ComponentHealth, ...], tuple[MessageView, ...] | None]:
        """Services answer without the database; that it is away, the banner says."""
        parts = self.source.health()
        try:
            return parts, self.source.letters()
        except IroncladError:
            return parts, None

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """The keys for notifications are there when there are some."""
        if action in {"resend", "drop"}:
            return bool(self._letters)
        return super().check_action(action, parameters)

    def _seen(self, answer: tuple[tuple[ComponentHealth, ...], tuple[MessageView, ...] | None]) -> None:
        """What is wrong, then what could not be told, then what is well."""
        found, letters = answer
        self._parts = {(part.service, part.component): part for part in found}
        if letters is not None:
            changed = bool(letters) != bool(self._letters)
            self._letters = {letter.message_uuid: letter for letter in letters}
            if changed:
                self.refresh_bindings()
        now = self.source.now()
        order = {"failed": 0, "degraded": 1}
        parts = sorted(self._parts.items(), key=lambda one: order.get(one[1].status, _WELL))
        rows = [
            (order.get(part.status, _WELL), Row(key, (
                state(part.status), part.service, part.component, part.detail, _since(part, now)
            )))
            for key, part in parts
        ]  # fmt: skip
        wrong = [row for rank, row in rows if rank < _WELL]
        well = [row for rank, row in rows if rank == _WELL]
        self.query_one(Grid).set_rows([*wrong, *(_row(one, now) for one in self._letters.values()), *well])
        self.on_grid_moved()

    @property
    def letter(self) -> MessageView | None:
        """The notification under the cursor."""
        key = self.query_one(Grid).cursor_key
        return self._letters.get(key) if isinstance(key, UUID) else None

    def on_grid_moved(self) -> None:
        """The remedy of what is under the cursor."""
        key = self.query_one(Grid).cursor_key
        part = self._parts.get(key) if isinstance(key, tuple) else None
        if self.letter is not None:
            self.lines("#lower").show(self._about(self.letter))
        elif part is not None:
            self.lines("#lower").show(
                [
                    heading(f"{part.service}: {part.component}"),
                    *fields(
                        [
                            ("State", state(part.status)),
                            ("Detail", part.detail),
                            ("What to do", Span(part.remedy, "strong") if part.remedy else "nothing"),
                        ]
                    ),
                ]
            )
        else:
            self.lines("#lower").show([])

    def _about(self, letter: MessageView) -> list[Line]:
        now = self.source.now()
        tries = "attempt" if letter.attempt == 1 else "attempts"
        remedy = f"Put the channel right (`ironclad notify test {letter.channel}`); r sends it again, x dismisses it."
        return [
            heading(f"Not delivered to {letter.channel}: {letter.title}"),
            *fields(
                [
                    ("Answer", letter.answer or "none"),
                    ("Given up", f"after {number(letter.attempt)} {tries}, {ago(letter.settled_at, now)}"),
                    ("About", f"{number(letter.events)} {'event' if letter.events == 1 else 'events'}"),
                    ("What to do", Span(remedy, "strong")),
                ]
            ),
            *((Span(f" {line}"),) for line in letter.text.splitlines()),
        ]

    def action_resend(self, all_: bool = False) -> None:  # noqa: FBT001, FBT002 - an action's argument
        """Send it, or all of them, again."""
        self.cockpit.actions.settle("resend", self._chosen(every=all_))

    def action_drop(self, all_: bool = False) -> None:  # noqa: FBT001, FBT002 - likewise
        """Give it, or all of them, up for good."""
        self.cockpit.actions.settle("drop", self._chosen(every=all_))

    def _chosen(self, *, every: bool) -> list[UUID]:
        if every:
            return list(self._letters)
        return [] if self.letter is None else [self.letter.message_uuid]


def _row(letter: MessageView, now: datetime) -> Row:
    detail = f"{letter.title}: {letter.answer}" if letter.answer else letter.title
    cells = (Span("✗ given up", "bad"), "notify", f"channel {letter.channel}", detail, ago(letter.made_at, now))
    return Row(letter.message_uuid, cells)


def _since(part: ComponentHealth, now: datetime) -> str:
    return ago(datetime.fromtimestamp(part.since, UTC), now) if part.since else ""
