"""Health: what every service says of its parts, and what to do."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ironclad.cli.text import ago
from ironclad_tui.screens.base import CockpitScreen, fields, heading
from ironclad_tui.text import Span, state
from ironclad_tui.widgets.grid import Column, Grid, Row
from ironclad_tui.widgets.lines import Lines

if TYPE_CHECKING:
    from textual.app import ComposeResult

    from ironclad.ops.looking import ComponentHealth

_COLUMNS = (
    Column("state", "State", 12),
    Column("service", "Service", 14),
    Column("component", "Part", 18),
    Column("detail", "Detail"),
    Column("since", "Since", 11, right=True, rank=1),
)


class HealthScreen(CockpitScreen):
    """Services of this machine, part by part."""

    HEADING = "Health"
    AUTO_FOCUS = "Grid"

    def __init__(self) -> None:
        super().__init__()
        self._parts: dict[tuple[str, str], ComponentHealth] = {}

    def body(self) -> ComposeResult:
        """Parts above, the remedy below."""
        yield Grid(_COLUMNS, id="upper", empty="No service runs on this machine: `ironclad up` starts them.")
        yield Lines(wrap=True, id="lower")

    def reload(self) -> None:
        """Ask the services."""
        self.ask("health", self.source.health, self._show)

    def _show(self, parts: tuple[ComponentHealth, ...]) -> None:
        order = {"failed": 0, "degraded": 1}
        parts = tuple(sorted(parts, key=lambda part: order.get(part.status, 2)))
        self._parts = {(part.service, part.component): part for part in parts}
        now = self.source.now()
        self.query_one(Grid).set_rows(
            [
                Row(key, (state(part.status), part.service, part.component, part.detail, _since(part, now)))
                for key, part in self._parts.items()
            ]
        )
        self.on_grid_moved()

    def on_grid_moved(self) -> None:
        """The remedy of the part under the cursor."""
        part = self._parts.get(self.query_one(Grid).cursor_key)
        if part is None:
            self.lines("#lower").show([])
            return
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


def _since(part: ComponentHealth, now: datetime) -> str:
    return ago(datetime.fromtimestamp(part.since, UTC), now) if part.since else ""
