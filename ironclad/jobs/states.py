"""The states of a job and the one table of its transitions. The database holds the same table in a trigger."""

from __future__ import annotations

import enum
from typing import Final


class JobState(enum.StrEnum):
    """Where a job is. `held` and `paused` are flags beside it, not states."""

    RECEIVED = "received"
    """The row exists; the file is being claimed."""
    QUEUED = "queued"
    """Claimed and waiting for a worker."""
    RUNNING = "running"
    """An attempt holds the lease."""
    WAITING_RETRY = "waiting_retry"
    """An attempt failed in a way that may pass; it is queued again at `not_before`."""
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"
    """There was nothing to do, for a reason that is recorded."""
    QUARANTINED = "quarantined"
    """It failed the same way too often to be tried again by itself."""


S = JobState
TRANSITIONS: Final[dict[JobState, frozenset[JobState]]] = {
    S.RECEIVED: frozenset({S.QUEUED, S.SKIPPED, S.FAILED, S.CANCELLED}),
    S.QUEUED: frozenset({S.RUNNING, S.CANCELLED, S.SKIPPED, S.FAILED}),
    S.RUNNING: frozenset(
        {S.QUEUED, S.WAITING_RETRY, S.SUCCEEDED, S.FAILED, S.CANCELLED, S.SKIPPED, S.QUARANTINED},
    ),
    S.WAITING_RETRY: frozenset({S.QUEUED, S.CANCELLED, S.FAILED}),
    S.SUCCEEDED: frozenset({S.QUEUED}),
    S.FAILED: frozenset({S.QUEUED}),
    S.CANCELLED: frozenset({S.QUEUED}),
    S.SKIPPED: frozenset({S.QUEUED}),
    S.QUARANTINED: frozenset({S.QUEUED}),
}
"""From each state, the states that may follow. Settled states go back to `queued` by retry or replay only."""

SETTLED: Final = frozenset({S.SUCCEEDED, S.FAILED, S.CANCELLED, S.SKIPPED, S.QUARANTINED})
"""States that nothing leaves by itself."""


def sources(target: JobState) -> frozenset[JobState]:
    """The states from which `target` can be reached."""
    return frozenset(state for state, targets in TRANSITIONS.items() if target in targets)


def mermaid() -> str:
    """The state diagram, for the documents."""
    lines = ["stateDiagram-v2", "    [*] --> received"]
    lines += [f"    {state} --> {target}" for state, targets in TRANSITIONS.items() for target in sorted(targets)]
    return "\n".join(lines)
