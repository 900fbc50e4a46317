"""The flow: the core's stage loop with a Prefect task around each stage.

Our database is the truth. `run_job` has committed the outcome there before the flow ends; what the flow then returns or
raises only decides which colour Prefect's UI shows. Retries are the job's: a further attempt is another flow run.
"""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Any
from uuid import UUID

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.runtime import flow_run
from prefect.states import Cancelled, Failed

from ironclad.config import load
from ironclad.errors import IroncladError, LeaseLost

if TYPE_CHECKING:
    from collections.abc import Callable

    from prefect.client.schemas.objects import State

    from ironclad.stages.runner import JobOutcome, StageOutcome

_DONE = frozenset({"succeeded", "queued", "skipped"})
# Nothing failed: somebody wanted it so, or another attempt has the job.
_LEFT = frozenset({"cancelled", "lost", "not_started"})


def stage_task(stage: str, call: Callable[[], StageOutcome]) -> StageOutcome:
    """Run one stage as a Prefect task named after it."""

    @task(name=stage, task_run_name=stage, retries=0, persist_result=False, cache_policy=NO_CACHE)
    def run() -> StageOutcome:
        return call()

    return run()


def _summary(outcome: JobOutcome) -> str:
    if outcome.error is None:
        return f"The job is {outcome.state}."
    return f"The job is {outcome.state}: {outcome.error.code} {outcome.error}"


def to_state(outcome: JobOutcome) -> State[Any] | dict[str, str]:
    """What the flow returns for an outcome: a summary when it went on, else the state that Prefect shall show."""
    if outcome.state in _DONE:
        return {"state": outcome.state}
    if outcome.state in _LEFT:
        return Cancelled(message=_summary(outcome))
    return Failed(message=_summary(outcome))


@flow(name="process-track", retries=0, persist_result=False, validate_parameters=False, log_prints=False)
def process_track(job_uuid: str, attempt: int) -> Any:
    """Run one attempt of a job until it ends or its next stage needs another pool.

    Args:
        job_uuid: the job.
        attempt: which attempt this is; another one that has begun since makes this end as Cancelled.
    """
    # The stages are the fork server's to preload; whoever only looks at the flow need not have them.
    from ironclad.stages.runner import run_job  # noqa: PLC0415

    worker = f"{os.environ.get('PREFECT__WORKER_NAME', 'flow')}@{socket.gethostname()}:{os.getpid()}"
    try:
        outcome = run_job(UUID(job_uuid), attempt, load(), worker=worker, run_id=flow_run.get_id(), around=stage_task)
    except LeaseLost as lost:
        return Cancelled(message=str(lost))
    except IroncladError as error:
        return Failed(message=f"{error.code} {error}")
    return to_state(outcome)
