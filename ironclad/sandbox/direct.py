"""A child that is an interpreter of its own: slower by its start and imports than one from the fork server."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from typing import IO, Any

from ironclad.errors import Unexpected
from ironclad.sandbox.running import environment

_POLL_SECONDS = 0.002


class DirectChild:
    """Starts a child and hands it its order."""

    def __init__(self, order: dict[str, Any]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-m", "ironclad.sandbox.child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            env=environment(),
            cwd="/",
        )
        try:
            self.stdout = _pipe(self._process.stdout).fileno()
            self.stderr = _pipe(self._process.stderr).fileno()
            stdin = _pipe(self._process.stdin)
            with suppress(BrokenPipeError):  # it died at once: its exit says why
                stdin.write(json.dumps({**order, "parent": os.getpid()}).encode() + b"\n")
                stdin.close()
        except BaseException:
            self.end()
            raise

    def begun(self, _seconds: float) -> bool:
        """True: it has its order since it was made."""
        return True

    def ended(self) -> bool:
        """Whether it has ended, without reaping it: its process group must stay its own until it was killed."""
        return os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None

    def wait(self, seconds: float) -> bool:
        """Whether it has ended, after at most so many seconds."""
        deadline = time.monotonic() + seconds
        while not (ended := self.ended()) and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
        return ended

    def end(self) -> int:
        """Kill its group, reap it and close its pipes; returns its exit code."""
        # Before the leader is reaped its process group cannot have been given to strangers.
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()
        return self._process.returncode


def _pipe(stream: IO[bytes] | None) -> IO[bytes]:
    if stream is None:
        raise Unexpected("a pipe to the child is missing")
    return stream
