"""How long an engine takes to stop, on a machine that itself stops."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

CANCELLED = """
import os, sys
from ironclad.engines.separation import Progress
from ironclad.errors import Cancelled
from ironclad.testing.conduct import _Stop

stop = _Stop(int(sys.argv[1]))
try:
    stop(Progress(1, 2, 0))
except Cancelled:
    print("cancelled", flush=True)
sys.stdin.readline()
print(stop.seconds())
"""
SECONDS = 3.0


@pytest.mark.parametrize("everything", [True, False], ids=["the machine stands still", "the engine does"])
def test_only_the_engines_own_time_counts(everything: bool) -> None:  # noqa: FBT001  # a case
    with subprocess.Popen(["sleep", "600"]) as host:
        command = [sys.executable, "-c", CANCELLED, str(host.pid)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as kit:
            assert kit.stdin is not None
            assert kit.stdout is not None
            assert kit.stdout.readline() == "cancelled\n"
            stopped = [host.pid, kit.pid] if everything else [host.pid]
            for pid in stopped:
                os.kill(pid, signal.SIGSTOP)
            time.sleep(SECONDS)  # the very thing
            for pid in stopped:
                os.kill(pid, signal.SIGCONT)
            kit.stdin.write("\n")
            kit.stdin.flush()
            seconds = float(kit.stdout.readline())
        host.kill()
    assert (seconds < SECONDS / 2) == everything, seconds
