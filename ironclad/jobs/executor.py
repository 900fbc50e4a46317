"""What the dispatcher needs of the thing that runs flows; Prefect implements it in `ironclad_flows`."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from uuid import UUID


class RunState(enum.StrEnum):
    """Where a flow run is, as far as the dispatcher cares."""

    WAITING = "waiting"
    """Created, and no worker has taken it: scheduled or late."""
    RUNNING = "running"
    """A worker has taken it: it is starting, or runs."""
    FINISHED = "finished"
    """In any final state; whether the job succeeded is for our database to say."""
    UNKNOWN = "unknown"
    """The executor does not know this run."""


@dataclass(frozen=True, slots=True)
class FlowRequest:
    """One flow run to create: the next attempt of a job from a stage on, on one pool."""

    job_uuid: UUID
    attempt: int
    stage: str
    pool: str
    key: str
    """Idempotency key: asking twice creates one run."""
    name: str
    """What the executor's UI shows: `Artist - Title`."""
    tags: tuple[str, ...] = field(default=())


class Executor(Protocol):
    """Creates and watches flow runs. Every call may raise `PrefectUnavailable`; none blocks longer than 30 s."""

    def submit(self, request: FlowRequest) -> str:
        """Create the flow run (or find it by its key) and return its id.

        Raises `PrefectRefused` where this one run is refused, `PrefectUnavailable` where nothing can be asked.
        """
        ...

    def state(self, run_id: str) -> RunState:
        """Where the run is now."""
        ...

    def cancel(self, run_id: str) -> None:
        """Ask for the run to end; one that has ended already is fine."""
        ...

    def abandon(self, run_id: str, reason: str) -> None:
        """Force a final state on a run whose process is known to be gone; one that has ended already is fine."""
        ...

    def retire(self, active: frozenset[str]) -> int:
        """End what only the executor believes to be running: runs that are not among `active`, twice in a row.

        A run whose process could not report its end (the server was away) would hold a slot for ever.
        Returns how many were ended.
        """
        ...

    def set_paused(self, pool: str, *, paused: bool) -> None:
        """Pause or resume the work pool."""
        ...

    def prepare(self, pools: dict[str, int]) -> None:
        """Make the work pools (name: slots) and the deployments exist and be current."""
        ...
