"""The queue under any order of claims, heartbeats, ends, crashes, zombies and operators, on a clock that is stepped.

No job is lost, none succeeds twice, and nothing is written without the live lease.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import hypothesis.strategies as st
import pytest
import sqlalchemy as sa
from chaoslab import mutants
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from ironclad.errors import CorruptAudio, DiskFull, EngineFailed, IllegalTransition, LeaseLost
from ironclad.jobs import control, history, lease, reap, submit
from ironclad.jobs.states import SETTLED, JobState
from ironclad.stages import keeper

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from uuid import UUID

    from sqlmodel import Session

    from ironclad.config import Settings
    from ironclad.db.session import Database

LEASE = 30.0
POOLS = frozenset({"cpu"})
ERRORS = (EngineFailed("made up"), DiskFull("made up"), CorruptAudio("made up"))


@dataclass(frozen=True)
class Live:
    """Which attempt has a job, and between which two moments its lease ends, by the machine's clock."""

    attempt: int
    earliest: float
    latest: float


@dataclass(frozen=True)
class Held:
    """What a worker believes: its fence. It may be a zombie by now."""

    fence: lease.Fence


class QueueMachine(RuleBasedStateMachine):
    """The model knows of each job its attempt and until when that attempt's lease lives; the database must agree."""

    database: ClassVar[Database]
    given: ClassVar[Settings]
    folder: ClassVar[Path]

    jobs = Bundle("jobs")
    claims = Bundle("claims")

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.live: dict[UUID, Live] = {}
        """Of each running job."""
        self.known: list[UUID] = []
        with self.session() as session:
            session.execute(sa.text("DELETE FROM job"))
            session.execute(sa.text("DELETE FROM control"))

    @contextlib.contextmanager
    def session(self) -> Iterator[Session]:
        with self.database.session() as session:
            session.execute(sa.text("SELECT set_config('ironclad.clock_offset', :at, true)"), {"at": f"{self.now} s"})
            yield session

    def clock(self) -> float:
        """What the database's clock says, of which the machine knows the steps: the real one goes on, too."""
        return time.monotonic() + self.now

    def begins(self, fence: lease.Fence, before: float) -> None:
        """A lease was given between `before` and now."""
        self.live[fence.job_uuid] = Live(fence.attempt, before + LEASE, self.clock() + LEASE)

    def write(self, held: Held, call: Callable[[Session], Any]) -> bool:
        """A worker writes: refused if and only if it has no live lease."""
        fence = held.fence
        live = self.live.get(fence.job_uuid, Live(0, 0.0, 0.0))
        ours = live.attempt == fence.attempt
        before = self.clock()
        try:
            with self.session() as session:
                call(session)
        except LeaseLost:
            assert not ours or self.clock() >= live.earliest, "a worker with a live lease was refused"
            return False
        dead = not ours or before > live.latest
        assert not dead, "a write without the live lease was accepted"
        return True

    # --- files and workers ---

    @rule(target=jobs, user=st.sampled_from(["ana", "bob"]))
    def submit(self, user: str) -> UUID:
        file = self.folder / f"{len(list(self.folder.iterdir()))}.flac"
        file.write_bytes(file.name.encode())
        new = submit.NewJob(user_id=user, source=file, relative_path=file.name, stat=file.stat())
        with self.session() as session:
            job = submit.receive(session, new, self.given).job_uuid
        with self.session() as session:
            submit.claimed(session, job, f"hash of {file}")
        self.known.append(job)
        return job

    @rule(target=claims)
    def claim(self) -> Held | None:
        before = self.clock()
        with self.session() as session:
            found = lease.claim_next(session, "cpu", worker="w", lease_seconds=LEASE)
        if found is None:
            return None
        assert found.job.job_uuid not in self.live, "a job that runs was claimed again"
        self.begins(found.fence, before)
        return Held(found.fence)

    @rule(held=claims)
    def heartbeat(self, held: Held | None) -> None:
        before = self.clock()
        if held and self.write(held, lambda session: lease.heartbeat(session, held.fence, lease_seconds=LEASE)):
            self.begins(held.fence, before)

    @rule(held=claims)
    def begin_stage(self, held: Held | None) -> None:
        if held:
            self.write(held, lambda session: history.stage_started(session, held.fence, "validate"))

    @rule(held=claims, to=st.sampled_from([JobState.SUCCEEDED, JobState.SUCCEEDED, JobState.QUEUED, JobState.SKIPPED]))
    def finish(self, held: Held | None, to: JobState) -> None:
        if held and self.write(held, lambda session: lease.finish(session, held.fence, to, actor="w")):
            del self.live[held.fence.job_uuid]

    @rule(held=claims, error=st.sampled_from(ERRORS))
    def fail(self, held: Held | None, error: Any) -> None:
        if held and self.write(
            held, lambda session: lease.fail(session, held.fence, error, actor="w", settings=self.given.jobs)
        ):
            del self.live[held.fence.job_uuid]

    # --- time and the reaper ---

    @rule(seconds=st.sampled_from([1.0, 10.0, 29.0, 33.0, 1000.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def reap(self) -> None:
        result = reap.Reaped()
        with self.session() as session:
            reap.expired(session, self.given.jobs, result)
            reap.due(session, result)
        for job in result.lost:
            assert self.clock() >= self.live.pop(job).earliest, "a live lease was reaped"

    # --- operators ---

    @rule(job=jobs, what=st.sampled_from(["cancel", "hold", "release", "retry", "replay"]))
    def operate(self, job: UUID, what: str) -> None:
        calls: dict[str, Callable[[Session], Any]] = {
            "cancel": lambda session: control.cancel(session, job, actor="op"),
            "hold": lambda session: control.hold(session, job, held=True, actor="op"),
            "release": lambda session: control.hold(session, job, held=False, actor="op"),
            "retry": lambda session: control.retry(session, job, actor="op", pools=POOLS),
            "replay": lambda session: control.replay(session, job, stage="separate", actor="op", pools=POOLS),
        }
        with contextlib.suppress(IllegalTransition), self.session() as session:
            calls[what](session)

    @rule(paused=st.booleans())
    def pause(self, paused: bool) -> None:  # noqa: FBT001 - hypothesis calls it by name
        with self.session() as session:
            control.pause(session, None, paused=paused, actor="op")

    # --- what must hold ---

    @invariant()
    def the_database_agrees(self) -> None:
        with self.session() as session:
            rows = session.execute(sa.text("SELECT job_uuid, state, attempt FROM job")).all()
            twice = session.execute(
                sa.text(
                    "SELECT job_uuid FROM job_event GROUP BY job_uuid HAVING count(*) FILTER (WHERE kind = 'succeeded')"
                    " > 1 + count(*) FILTER (WHERE kind IN ('retried', 'replayed'))"
                )
            ).all()
        assert {row.job_uuid for row in rows} == set(self.known), "a job is lost"
        assert not twice, "a job succeeded twice"
        running = {row.job_uuid: row.attempt for row in rows if row.state == "running"}
        assert running == {job: live.attempt for job, live in self.live.items()}

    def teardown(self) -> None:
        """Everything settles, once nobody stands in the way."""
        with self.session() as session:
            control.pause(session, None, paused=False, actor="op")
            session.execute(sa.text("UPDATE job SET held = false"))
        for _ in range(40):
            self.now += 2000
            self.reap()
            while held := self.claim():
                self.finish(held, JobState.SUCCEEDED)
            with self.session() as session:
                states = list(session.scalars(sa.text("SELECT state FROM job")))
            if all(JobState(state) in SETTLED for state in states):
                return
        raise AssertionError(f"not everything settles: {states}")


@pytest.fixture
def machine(database: Database, settings: Settings, tmp_path: Path) -> type[QueueMachine]:
    folder = tmp_path / "songs"
    folder.mkdir()

    class Machine(QueueMachine):
        pass

    Machine.database, Machine.given, Machine.folder = database, settings, folder
    return Machine


BOUNDS = settings(
    max_examples=20, stateful_step_count=30, deadline=None, print_blob=False, database=None,
    suppress_health_check=list(HealthCheck),
)  # fmt: skip


def test_the_queue_keeps_its_promises_in_any_order(machine: type[QueueMachine]) -> None:
    run_state_machine_as_test(machine, settings=BOUNDS)


@pytest.mark.chaos
@pytest.mark.timeout(1200)
def test_the_queue_keeps_its_promises_for_long(machine: type[QueueMachine]) -> None:
    run_state_machine_as_test(machine, settings=settings(BOUNDS, max_examples=300, stateful_step_count=50))


def test_the_machine_finds_an_unfenced_finish(machine: type[QueueMachine], monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name in (
        (lease, "assert_held"), (history, "assert_held"), (lease, "end_attempt"), (keeper.LeaseKeeper, "check"),
    ):  # fmt: skip
        monkeypatch.setattr(module, name, getattr(module, name))  # put back afterwards
    mutants.unfenced_finish()
    monkeypatch.setattr(machine, "teardown", lambda _self: None)
    with pytest.raises(AssertionError, match=r"without the live lease|claimed again|succeeded twice|assert"):
        run_state_machine_as_test(
            machine, settings=settings(BOUNDS, max_examples=60, phases=[Phase.generate], derandomize=True)
        )
