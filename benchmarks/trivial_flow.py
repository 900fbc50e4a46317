"""The flow that `orchestration.py` runs: five tasks that do next to nothing."""

from __future__ import annotations

from prefect import flow, task

TASKS = 5


@task
def double(number: int) -> int:
    """One task."""
    return 2 * number


@flow(name="trivial")
def trivial() -> int:
    """Five of them."""
    return sum(double(number) for number in range(TASKS))
