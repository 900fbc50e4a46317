"""Workers and queues: pools with their pauses and slots, services with their heartbeats."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType

from ironclad.cli.text import ago, duration, size
from ironclad_tui.screens.base import CockpitScreen
from ironclad_tui.text import Span, number, state
from ironclad_tui.widgets.grid import Column, Grid, Row

if TYPE_CHECKING:
    from textual.app import ComposeResult

    from ironclad.jobs.overview import Glance, Service

_POOLS = (
    Column("name", "Pool", 14),
    Column("state", "State", 10),
    Column("slots", "Slots", 5, right=True),
    Column("running", "Running", 7, right=True),
    Column("dispatched", "Handed out", 10, right=True, rank=2),
    Column("waiting", "Waiting", 9, right=True),
    Column("oldest", "Oldest", 12, right=True, rank=1),
    Column("jobs", "Jobs"),
)
_SERVICES = (
    Column("name", "Service"),
    Column("state", "State", 12),
    Column("kind", "Kind", 9, rank=3),
    Column("pool", "Pool", 6, rank=2),
    Column("host", "Host", 14, rank=1),
    Column("pid", "Process", 8, right=True, rank=5),
    Column("seen", "Heard", 11, right=True),
    Column("up", "Up for", 12, right=True, rank=4),
    Column("memory", "Memory", 9, right=True, rank=6),
    Column("gpu", "GPU", 12, rank=7),
)


class WorkersScreen(CockpitScreen):
    """Pools above, services below."""

    HEADING = "Workers"
    AUTO_FOCUS = "#pools-grid"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("p", "pause", "Pause/resume pool"),
        Binding("P", "app.pause_pipeline", "Pause/resume all"),
        Binding("n", "slots", "Jobs at a time"),
        Binding("D", "app.drain", "Drain"),
    ]

    def body(self) -> ComposeResult:
        """Two tables."""
        yield Grid(_POOLS, id="pools-grid", empty="No pool is known yet: `ironclad up` starts the workers.")
        yield Grid(_SERVICES, id="services-grid", empty="No service has reported yet.")

    def reload(self) -> None:
        """Comes with every glance."""

    def shown_glance(self, glance: Glance) -> None:
        """Both tables."""
        running: dict[str, list[str]] = {}
        for job in glance.running:
            running.setdefault(job.pool, []).append(job.name)
        self.query_one("#pools-grid", Grid).set_rows(
            [
                Row(
                    pool.name,
                    (
                        pool.name, state("paused" if pool.paused or glance.paused else "open"), str(pool.slots),
                        str(pool.running), str(pool.dispatched), number(pool.waiting),
                        "-" if pool.oldest_waiting_seconds is None else duration(pool.oldest_waiting_seconds),
                        ", ".join(running.get(pool.name, [])),
                    ),
                )
                for pool in glance.pools
            ]
        )  # fmt: skip
        self.query_one("#services-grid", Grid).set_rows([_service(service, glance) for service in glance.services])

    def action_pause(self) -> None:
        """The pool under the cursor."""
        pool = self.query_one("#pools-grid", Grid).cursor_key
        glance = self.cockpit.glance
        if glance is not None and pool is not None:
            paused = next(view.paused for view in glance.pools if view.name == pool)
            self.cockpit.actions.pause(pool, paused=not paused)

    def action_slots(self) -> None:
        """Of the pool under the cursor."""
        pool = self.query_one("#pools-grid", Grid).cursor_key
        glance = self.cockpit.glance
        if glance is not None and pool is not None:
            now = next(view.slots for view in glance.pools if view.name == pool)
            self.cockpit.actions.slots(pool, now)


def _service(service: Service, glance: Glance) -> Row:
    up = (glance.at - service.started_at).total_seconds() if service.started_at and not service.late else None
    memory = service.data.get("rss_bytes")
    return Row(
        service.name,
        (
            Span(service.name.partition("@")[0], "strong"), state(service.status), service.kind, service.pool or "",
            service.host, str(service.pid), ago(service.seen_at, glance.at), "" if up is None else duration(up),
            size(memory) if isinstance(memory, int | float) else "", str(service.data.get("gpu", "")),
        ),
    )  # fmt: skip
