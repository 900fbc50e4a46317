"""The link between two hosts is cut for a minute while both work: the benchmark's drill, as a test."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


def impossible() -> str:
    """Why no link can be made here; empty if one can."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        return "needs root and iproute2"
    name = f"ic-probe-{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, check=False, timeout=30)
    if made.returncode != 0:
        return f"the kernel refuses network namespaces: {made.stderr.decode().strip()}"
    probe = ["ip", "-n", name, "link", "add", "probe0", "type", "veth", "peer", "name", "probe1"]
    done = subprocess.run(probe, capture_output=True, check=False, timeout=30)
    subprocess.run(["ip", "netns", "delete", name], check=True, timeout=30)
    return "" if done.returncode == 0 else f"the kernel refuses veth: {done.stderr.decode().strip()}"


@pytest.mark.chaos
@pytest.mark.timeout(1500)
def test_a_cut_link_loses_nothing_and_publishes_nothing_twice() -> None:
    reason = impossible()
    if reason:
        pytest.skip(reason)
    command = [sys.executable, ROOT / "benchmarks/two_hosts.py", "--link", "--songs", "6", "--seconds", "90"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1400, check=False)
    assert done.returncode == 0, done.stdout + done.stderr[-4000:]
    assert "nothing lost, nothing twice" in done.stdout
    assert "host-b works again" in done.stdout
    assert ": lost" in done.stdout
