"""A step of making something: a program of its own, whose lines are handed on while it runs."""

from __future__ import annotations

import subprocess
import threading
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_TAIL_LINES: Final = 15


@dataclass(frozen=True, slots=True)
class Ended:
    """How a step ended: its exit status, and its last lines that are not blank, oldest first."""

    status: int
    lines: tuple[str, ...]


def run(
    command: Sequence[str], environ: Mapping[str, str], say: Callable[[str], None], *, seconds: float,
    errors_only: bool = False,
) -> Ended:  # fmt: skip
    """Run a program to its end and hand on each line that it writes.

    Whatever `say` raises kills it. So does the time-out: a server that sends nothing for ever must not hold a lock for
    ever.

    Args:
        command: program and arguments.
        environ: its whole environment.
        say: gets each line, without the line break.
        seconds: how long it may take.
        errors_only: listen to standard error alone and drop standard output.

    Raises:
        OSError: the program cannot be started.
    """
    tail: deque[str] = deque(maxlen=_TAIL_LINES)
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL if errors_only else subprocess.PIPE,
        stderr=subprocess.PIPE if errors_only else subprocess.STDOUT, text=True, errors="replace", cwd="/",
        env=environ,
    )  # fmt: skip
    alarm = threading.Timer(seconds, process.kill)
    alarm.daemon = True
    alarm.start()
    try:
        with process:  # which waits for its end, however it is left
            try:
                for line in (process.stderr if errors_only else process.stdout) or ():
                    text = line.rstrip()
                    if text:
                        tail.append(text)
                    say(text)
            except BaseException:
                process.kill()
                raise
    finally:
        alarm.cancel()
    return Ended(process.returncode, tuple(tail))
