"""Overview: is all well, what runs, what waits, what happened."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType

from ironclad.cli.text import duration, size
from ironclad_tui.screens.base import CockpitScreen
from ironclad_tui.text import STATES, Line, Span, bar, number, spark, state
from ironclad_tui.widgets.grid import Column, Grid, Row
from ironclad_tui.widgets.lines import Lines

if TYPE_CHECKING:
    from textual.app import ComposeResult

    from ironclad.jobs.overview import Glance, RunningJob
    from ironclad.ops.looking import DiskView

_BAR: int = 10
_RUNNING = (
    Column("name", "Running"),
    Column("stage", "Stage", 14),
    Column("done", "Done", 5, right=True),
    Column("bar", "", _BAR, rank=2),
    Column("left", "Left", 12, right=True),
    Column("user", "User", 8, rank=1),
    Column("worker", "Worker", 16, rank=3),
)
_EVENTS = (
    Column("at", "Time", 8),
    Column("kind", "What happened", 17),
    Column("name", "Job"),
    Column("stage", "Stage", 10, rank=2),
    Column("actor", "Who", 14, rank=3),
)


class OverviewScreen(CockpitScreen):
    """Pools, throughput, running jobs, last events."""

    HEADING = "Overview"
    AUTO_FOCUS = "#running"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("f", "app.show('failures')", "Failures"),
        # With priority, as the list's own: what is typed after it goes into the filter.
        Binding("slash", "find", "Find jobs", priority=True),
        Binding("c", "cancel", "Cancel"),
        Binding("P", "app.pause_pipeline", "Pause all"),
    ]

    def body(self) -> ComposeResult:
        """Figures above, running jobs, events."""
        yield Lines(id="pools")
        yield Lines(id="rates")
        yield Grid(_RUNNING, id="running", empty="Nothing is running.")
        yield Grid(_EVENTS, id="events", empty="Nothing has happened yet.")

    def furnish(self) -> None:
        """Figures are no stop of the tab key."""
        super().furnish()
        for name in ("#pools", "#rates"):
            self.lines(name).can_focus = False

    def reload(self) -> None:
        """The disk; the rest comes with every glance."""
        self.ask("disk", self.source.disk, self._disk)

    def _disk(self, view: DiskView) -> None:
        self._disk_view = view
        if self.cockpit.glance is not None:
            self.shown_glance(self.cockpit.glance)

    _disk_view: DiskView | None = None

    def shown_glance(self, glance: Glance) -> None:
        """All of it."""
        width = self.app.size.width
        self.lines("#pools").show([*_pools(glance), *self._facts(glance)])
        self.lines("#rates").show(_rates(glance, max(10, min(60, width - 36))))
        self.query_one("#running", Grid).set_rows([_running(job) for job in glance.running])
        self.query_one("#events", Grid).set_rows(
            [
                Row(
                    (event.id, event.job_uuid),
                    (
                        f"{event.at:%H:%M:%S}", STATES.get(event.kind) or Span(f"  {event.kind}"),
                        Span(f"{event.code}  {event.name}" if event.code else event.name), event.stage or "",
                        event.actor,
                    ),
                )
                for event in glance.events
            ]
        )  # fmt: skip

    def _facts(self, glance: Glance) -> list[Line]:
        """One line: states, services, disk."""
        spans = [Span(" ")]
        for word in ("succeeded", "failed", "quarantined", "skipped", "waiting_retry"):
            if count := glance.states.get(word, 0):
                spans += [Span(f"{number(count)} ", "strong"), Span(word, state(word).tone), Span("  ")]
        if glance.held:
            spans += [Span(f"{number(glance.held)} ", "strong"), Span("held", "warn"), Span("  ")]
        late = sum(service.late for service in glance.services)
        total = len(glance.services)
        services = Span(f"services {total - late}/{total}", "bad" if late or not total else "")
        spans.append(services)
        if self._disk_view is not None:
            low = self._disk_view.free < self._disk_view.floor
            spans.append(Span(f"  disk {size(self._disk_view.free)} free", "bad" if low else ""))
        return [tuple(spans)]

    def on_grid_chosen(self, message: Grid.Chosen) -> None:
        """Enter opens the job."""
        key = message.key
        self.cockpit.open_job(key[1] if isinstance(key, tuple) else key)  # type: ignore[arg-type]  # ids by construction

    async def action_find(self) -> None:
        """Type a filter for the list of jobs."""
        await self.cockpit.find_jobs()

    def action_cancel(self) -> None:
        """Cancel the running job under the cursor."""
        self.cockpit.actions.start("cancel", self.query_one("#running", Grid).chosen_keys)


def _pools(glance: Glance) -> list[Line]:
    lines: list[Line] = [
        (Span(f" {'Pool':<10}{'slots':>6}{'running':>9}{'waiting':>10}{'oldest':>13}  state", "head"),)
    ]
    for pool in glance.pools:
        oldest = "-" if pool.oldest_waiting_seconds is None else duration(pool.oldest_waiting_seconds)
        mark = state("paused" if pool.paused or glance.paused else "open")
        waiting = pool.waiting + pool.dispatched
        figures = f" {pool.name:<10.10}{pool.slots:>6}{pool.running:>9}{number(waiting):>10}{oldest:>13}  "
        lines.append((Span(figures), mark))
    if not glance.pools:
        lines.append((Span(" No pool is known yet: `ironclad up` starts the workers.", "dim"),))
    return lines


def _rates(glance: Glance, width: int) -> list[Line]:
    done, bad = sum(glance.succeeded), sum(glance.failed)
    return [
        (
            Span(" last hour  done   ", "dim"), Span(f"{spark(glance.succeeded, width):>{width}}", "good"),
            Span(_jobs(done)),
        ),
        (
            Span("            failed ", "dim"), Span(f"{spark(glance.failed, width):>{width}}", "bad"),
            Span(_jobs(bad)),
        ),
    ]  # fmt: skip


def _jobs(count: int) -> str:
    return f" {number(count)} job{'' if count == 1 else 's'}"


def _running(job: RunningJob) -> Row:
    left = "-" if job.eta_seconds is None else duration(job.eta_seconds)
    stage = Span(f"{job.stage} {job.stage_progress:.0%}", "run") if not job.cancelling else state("cancelling")
    return Row(
        job.job_uuid,
        (
            job.name, stage, f"{job.progress:.0%}", bar(job.progress, _BAR), left, job.user_id, job.worker,
        ),
    )  # fmt: skip
