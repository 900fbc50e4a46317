"""Flows for the worker's tests; the fork server preloads this module."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from prefect import flow, task


@task
def double(number: int) -> int:
    return 2 * number


@flow
def five() -> int:
    total = sum(double(number) for number in range(5))
    print("five is done")  # noqa: T201 - into the run's log
    return total


@flow
def broken() -> None:
    raise ValueError("broken on purpose")


@flow
def sleeper(pids: str, over: str = "") -> None:
    """Sleep beside a program of its own, until there is a file `over`; writes the process ids of itself and of that."""
    program = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    unfinished = Path(f"{pids}.new")
    unfinished.write_text(f"{os.getpid()} {program.pid}", encoding="ascii")
    unfinished.rename(pids)
    for _ in range(6000):
        if over and Path(over).exists():
            break
        time.sleep(0.1)
    program.kill()
    program.wait()
