"""The pipeline: the loop that runs a job's stages, used by the flow, by `ironclad process` and by the tests alike."""

from __future__ import annotations

import contextlib
import os
import signal
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import structlog

from ironclad import durable, log
from ironclad.engines import keeping
from ironclad.engines.admission import own_hosts
from ironclad.errors import Cancelled, DatabaseUnavailable, Drained, IroncladError, LeaseLost, Unexpected
from ironclad.jobs import history, lease, pipeline
from ironclad.jobs.states import SETTLED, JobState
from ironclad.stages import filing, markers, selection, tracing
from ironclad.stages.context import StageContext, StageOutput, StageResult
from ironclad.stages.keeper import LeaseKeeper
from ironclad.stages.progress import ProgressWriter
from ironclad.stages.publish import publisher
from ironclad.stages.registry import STAGES

if TYPE_CHECKING:
    from collections.abc import Mapping
    from uuid import UUID

    from sqlmodel import Session

    from ironclad.config import Settings
    from ironclad.db.session import Database
    from ironclad.db.tables import Job
    from ironclad.engines.hosts import Hosts
    from ironclad.stages.context import Stage

# How much of a job's time a stage takes, roughly: for one progress bar over all stages.
_WEIGHTS: Mapping[str, float] = {
    "validate": 0.06, "categorize": 0.02, "metadata": 0.01, "stage": 0.05, "separate": 0.7, "recombine": 0.14,
    "organize": 0.02,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class StageOutcome:
    """How one stage went in this attempt."""

    stage: str
    reused: bool
    seconds: float
    data: Mapping[str, Any]
    settle: JobState | None = None
    """Set when the job ends here, because of `error`."""
    error: IroncladError | None = None


@dataclass(frozen=True, slots=True)
class JobOutcome:
    """How an attempt ended: the job's state, or `lost` (the lease is gone) or `not_started` (paused, held)."""

    job_uuid: UUID
    state: str
    error: IroncladError | None = None
    seconds: float = 0.0


Around: TypeAlias = Callable[[str, Callable[[], StageOutcome]], StageOutcome]
"""Called with each stage's name and a callable that runs it; returns what the callable returns."""


@dataclass(frozen=True, slots=True)
class _Step:
    """A stage about to run: what it would be made from, and its finished output if that exists already."""

    stage: Stage
    inputs: str
    found: StageOutput | None
    index: int


class Attempt:
    """One attempt of one job on one pool, from claim to the committed end."""

    def __init__(
        self, database: Database, settings: Settings, claim: lease.Claim, worker: str, hosts: Hosts, *,
        own_process: bool = False,
    ) -> None:  # fmt: skip
        self.hosts = hosts
        self.database = database
        self.settings = settings
        self.job: Job = claim.job
        self.fence = claim.fence
        self.worker = worker
        self.log = log.JobLog(settings.layout.job_log(self.job.job_uuid))
        self.outputs: dict[str, StageOutput] = {}
        self._own_process = own_process
        self._pools = frozenset(settings.pools)

    # --- writing, patiently: a database that restarts must not cost the work ---

    def write(self, call: Callable[[Session], Any]) -> Any:
        """One transaction; waits for the database as long as the lease can live."""

        def once() -> Any:
            with self.database.session() as session:
                return call(session)

        return self.database.patiently(once, seconds=self.settings.jobs.lease_seconds * 2 / 3)

    def run(self, around: Around) -> JobOutcome:
        """Run the stages that this pool can run; commit how it ended."""
        begun = time.monotonic()
        self._say("attempt_started", worker=self.worker, pool=self.job.pool)
        try:
            jobs = self.settings.jobs
            with (
                LeaseKeeper(
                    self.database,
                    self.fence,
                    jobs.lease_seconds,
                    stall_seconds=jobs.stall_seconds,
                    stalled=self._stalled,
                ) as keeper,
                ProgressWriter(self.database, self.fence, keeper.lost) as self._progress_writer,
            ):
                state, error = self._stages(keeper, around)
        except LeaseLost as exc:
            state, error = "lost", exc
        except DatabaseUnavailable as exc:
            state, error = "lost", exc  # nothing can be written now: the lease runs out and the reaper takes over
        except IroncladError as exc:
            state, error = self._failed(exc), exc
        except Exception as exc:  # noqa: BLE001 - whatever a stage raises must end in the catalogue
            unexpected = Unexpected(f"{type(exc).__name__}: {exc}", fingerprint=_fingerprint(exc))
            self._say("traceback", text="".join(traceback.format_exception(exc)))
            state, error = self._failed(unexpected), unexpected
        except BaseException:  # the process is being stopped: give the job back, then go
            with contextlib.suppress(IroncladError):
                self._end(JobState.QUEUED, Drained(), pool=self.job.pool)
            raise
        self._say("attempt_ended", state=state, error=None if error is None else error.to_dict())
        if state in {s.value for s in SETTLED}:
            self._settle()
        return JobOutcome(self.job.job_uuid, state, error, time.monotonic() - begun)

    def _stages(self, keeper: LeaseKeeper, around: Around) -> tuple[str, IroncladError | None]:
        self.source = self.write(lambda session: self._recall(session, keeper))
        for index, name in enumerate(pipeline.STAGES):
            stage = STAGES[name]
            if name == selection.BEFORE:
                self._choose_engine()
            inputs = self._inputs_digest(stage)
            found = self._reusable(stage, inputs)
            if found is None:
                pool = pipeline.pool_of(name, self.job.engine_pool, self._pools)
                if pool != self.job.pool and not self.job.pool.startswith("inline"):
                    return self._end(JobState.QUEUED, None, pool=pool, handoff=True), None
            keeper.check()
            step = _Step(stage, inputs, found, index)

            def call(step: _Step = step) -> StageOutcome:
                return self._one(step, keeper)

            outcome = around(name, call)
            if outcome.settle is not None:
                self._end(outcome.settle, outcome.error)
                return outcome.settle.value, outcome.error
        self._end(JobState.SUCCEEDED, None)
        return JobState.SUCCEEDED.value, None

    def _choose_engine(self) -> None:
        """What the rules say, now that the tags are known."""
        if values := selection.changes(self.job, self.settings, self.outputs):
            self.write(lambda session: history.engine_chosen(session, self.fence, **values))
            for key, value in values.items():
                setattr(self.job, key, value)
            self._say("engine_chosen", **values)

    def _recall(self, session: Session, keeper: LeaseKeeper) -> Path:
        """The original, taken back from error/ if it is there: the row is locked meanwhile, so nobody files it."""
        lease.assert_held(session, self.fence)
        return filing.recall(self.settings.layout, self.job, check=keeper.check)

    def _one(self, step: _Step, keeper: LeaseKeeper) -> StageOutcome:
        begun = time.monotonic()
        name = step.stage.name
        self.write(lambda session: history.stage_started(session, self.fence, name))
        if step.found is None:
            result, output = self._run(step, keeper)
        else:
            result, output = StageResult(facts=step.found.data.get("facts", {})), step.found
        self.outputs[name] = output
        self.write(
            lambda session: history.stage_ended(
                session, self.fence, name, reused=step.found is not None, data=dict(output.data),
                following=pipeline.next_stage(name), facts=dict(result.facts),
            )
        )  # fmt: skip
        keeper.report(_done_before(step.index + 1))
        seconds = time.monotonic() - begun
        self._say("stage_ended", stage=name, reused=step.found is not None, seconds=round(seconds, 3))
        return StageOutcome(name, step.found is not None, seconds, output.data, result.settle, result.error)

    def _run(self, step: _Step, keeper: LeaseKeeper) -> tuple[StageResult, StageOutput]:
        stage = step.stage
        work = self.settings.layout.work_of(self.job.job_uuid)
        durable.make_dirs(work)
        partial = work / f"{stage.name}.partial"
        temporary = work / f"{stage.name}.{self.job.attempt}.tmp"
        for left in (*work.glob(f"{stage.name}.*.tmp"), *filter(_unfinished, work.iterdir())):
            durable.remove_tree(left, reason="left by an interrupted run of this stage")
        durable.make_dirs(temporary)
        self._say("stage_started", stage=stage.name)

        def progress(fraction: float, message: str | None) -> None:
            self._progress(keeper, step, fraction, message)

        def note(kind: str, data: Mapping[str, Any]) -> None:
            self.write(lambda session: history.note(session, self.fence, kind, stage.name, **data))

        context = StageContext(
            job=self.job, settings=self.settings, layout=self.settings.layout, source=self.source, folder=temporary,
            partial=partial, outputs=self.outputs, progress=progress, check=keeper.check, log=self.log,
            library=publisher(self.write, self.fence, keeper.check, since=self._keep_before()), database=self.database,
            hosts=self.hosts, note=note,
        )  # fmt: skip
        with structlog.contextvars.bound_contextvars(stage=stage.name):
            outcome = stage.run(context)
        keeper.check()
        if outcome.settle is not None:  # no marker: after a crash, a reused one would not end the job here
            durable.remove_tree(temporary, reason="the job ends here")
            return outcome, StageOutput(temporary, dict(outcome.data), "")
        data = {**outcome.data, "facts": dict(outcome.facts)}
        marker = markers.write(temporary, self.job, stage.name, step.inputs, data)
        final = work / stage.name
        durable.commit_folder(temporary, final, check=keeper.check)
        durable.remove_tree(partial, reason="the stage is finished")
        return outcome, StageOutput(final, marker.data, marker.digest)

    def _inputs_digest(self, stage: Stage) -> str:
        return markers.digest_of(
            {
                "stage": stage.name, "version": stage.version, "source": self.job.content_hash,
                "parameters": stage.parameters(self.job, self.settings),
                "depends": {name: self.outputs[name].digest for name in stage.depends},
            }
        )  # fmt: skip

    def _reusable(self, stage: Stage, inputs: str) -> StageOutput | None:
        if not stage.keep:
            return None
        since = 0
        replay_from = self.job.options.get("replay_from")
        if replay_from and pipeline.STAGES.index(stage.name) >= pipeline.STAGES.index(replay_from):
            since = int(self.job.options.get("replay_attempt", 0))
        folder = self.settings.layout.work_of(self.job.job_uuid) / stage.name
        return markers.reusable(folder, inputs, since_attempt=since)

    def _keep_before(self) -> int:
        """The attempt from which on this job's files may be replaced: a replay may keep the results before it."""
        return int(self.job.options.get("replay_attempt", 0)) if self.job.options.get("keep_results") else 0

    def _progress(self, keeper: LeaseKeeper, step: _Step, fraction: float, message: str | None) -> None:
        fraction = min(1.0, max(0.0, fraction))
        keeper.report(_done_before(step.index) + _WEIGHTS[step.stage.name] * fraction)
        self._progress_writer.say(step.stage.name, fraction, message)

    def _stalled(self, error: IroncladError) -> None:
        """The attempt hangs: its failure is committed for it, and its process, if it has one of its own, is ended."""
        self._say("stalled", error=error.to_dict())
        self._failed(error)
        if self._own_process:
            os.kill(os.getpid(), signal.SIGKILL)

    def _failed(self, error: IroncladError) -> str:
        """Commit the failure; returns the state that follows (`lost` if the lease is gone)."""
        try:
            if isinstance(error, Cancelled):
                return self._end(JobState.CANCELLED, error)
            if isinstance(error, Drained):
                return self._end(JobState.QUEUED, error, pool=self.job.pool)
            job: Job = self.write(
                lambda session: lease.fail(
                    session, self.fence, error, actor=f"worker:{self.worker}", settings=self.settings.jobs
                )
            )
        except (LeaseLost, DatabaseUnavailable):
            return "lost"
        return job.state

    def _end(self, state: JobState, error: IroncladError | None, *, pool: str | None = None, **data: Any) -> str:
        """Commit the end; returns where the job went: not back to the queue if somebody asked to cancel meanwhile."""
        job: Job = self.write(
            lambda session: lease.finish(
                session, self.fence, state, actor=f"worker:{self.worker}", error=error, pool=pool, **data
            )
        )
        return job.state

    def _settle(self) -> None:
        """Put the files where a settled job's files belong; the dispatcher's sweep does it if this is interrupted."""
        try:
            filing.settle(self.database, self.settings, self.job.job_uuid)
        except IroncladError as exc:
            log.get().warning("filing_failed", job_uuid=str(self.job.job_uuid), error=str(exc))

    def _say(self, event: str, **data: Any) -> None:
        identity = {"job_uuid": str(self.job.job_uuid), "user_id": self.job.user_id, "trace_id": self.job.trace_id}
        self.log.write(event=event, attempt=self.job.attempt, **identity, **data)
        if event != "traceback":  # its identity in words: the keeper's thread has none bound
            log.get().info(event, **{"attempt": self.job.attempt, **identity, **data})


def _unfinished(path: Path) -> bool:
    return durable.is_temporary(path.name)


def _done_before(index: int) -> float:
    return min(1.0, sum(_WEIGHTS[name] for name in pipeline.STAGES[:index]))


def _fingerprint(error: BaseException) -> str:
    """The same for the same failure at the same place: the exception's type and our innermost frames."""
    frames = [frame.name for frame in traceback.extract_tb(error.__traceback__) if "ironclad" in frame.filename]
    return markers.digest_of([type(error).__name__, frames[-5:]])[:16]


def _plainly(_name: str, call: Callable[[], StageOutcome]) -> StageOutcome:
    return call()


def run_claim(
    database: Database, settings: Settings, claim: lease.Claim, *, worker: str,
    around: Around = _plainly, own_process: bool = False, hosts: Hosts | None = None,
) -> JobOutcome:  # fmt: skip
    """Run a claimed job to the end of what this pool can do. One that hangs takes `own_process` down with it.

    `hosts` are warm engines to use; without them an engine is started for this job alone.
    """
    job = claim.job
    with contextlib.ExitStack() as stack:
        bound = structlog.contextvars.bound_contextvars(
            job_uuid=str(job.job_uuid), user_id=job.user_id, trace_id=job.trace_id, attempt=job.attempt
        )
        stack.enter_context(bound)
        ours = hosts or stack.enter_context(own_hosts(settings))
        trace = stack.enter_context(tracing.attempt(settings.trace, job, worker))

        def traced(name: str, call: Callable[[], StageOutcome]) -> StageOutcome:
            return trace.stage(name, lambda: around(name, call))

        outcome = Attempt(database, settings, claim, worker, ours, own_process=own_process).run(traced)
        trace.ended(outcome)
        return outcome


def run_job(
    job_uuid: UUID, attempt: int, settings: Settings, *, worker: str, run_id: str | None = None,
    around: Around = _plainly,
) -> JobOutcome:  # fmt: skip
    """Claim attempt `attempt` of a job and run it; how it ended is committed when this returns.

    Args:
        job_uuid: the job.
        attempt: the attempt to begin; if somebody else began it, the outcome is `lost`.
        settings: the installation.
        worker: who runs it, for the audit trail.
        run_id: the flow run, so that the reaper can look after it.
        around: called with each stage's name and a callable that runs it; must return what the callable returns.
    """
    from ironclad.db.session import Database  # noqa: PLC0415 - run-time import of a name that is only a type above

    database = Database.open(settings)
    try:
        lease_seconds = settings.jobs.lease_seconds

        def begin() -> lease.Claim | None:
            with database.session() as session:
                return lease.claim(
                    session, job_uuid, attempt, worker=worker, lease_seconds=lease_seconds, run_id=run_id
                )

        try:
            claim = database.patiently(begin, seconds=lease_seconds)
        except LeaseLost as exc:
            return JobOutcome(job_uuid, "lost", exc)
        if claim is None:
            return JobOutcome(job_uuid, "not_started")
        shared = os.environ.get(keeping.SOCKET)
        hosts = keeping.SharedHosts(Path(shared)) if shared else None
        return run_claim(database, settings, claim, worker=worker, around=around, own_process=True, hosts=hosts)
    finally:
        database.close()
