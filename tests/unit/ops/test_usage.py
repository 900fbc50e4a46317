"""What a service says that it uses."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from ironclad.ops import usage

if TYPE_CHECKING:
    from pathlib import Path

SMI = """#!/bin/sh
[ "$1" = "--query-gpu=name,memory.used,memory.total" ] && [ "$2" = "--format=csv,noheader,nounits" ] || exit 9
{body}
"""


@pytest.fixture
def smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where `nvidia-smi` would be: a strict stand-in, for machines without such a GPU."""
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(usage, "_SECONDS", 60.0)
    return tmp_path / "nvidia-smi"


def write(path: Path, body: str) -> None:
    path.write_text(SMI.format(body=body))
    path.chmod(0o755)


STARTS = """
import subprocess, sys
from ironclad.ops import usage

alone = usage.memory()
code = "data = bytearray(64 << 20); print(len(data), flush=True); input()"
with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
    child.stdout.readline()
    print(usage.memory() - alone)
    child.communicate(b"\\n")
"""


def test_what_it_started_counts() -> None:
    """Of a process of its own: what else this one has started may grow and shrink meanwhile."""
    done = subprocess.run([sys.executable, "-c", STARTS], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 64 << 20


def test_gpus_are_told_by_their_driver(smi: Path) -> None:
    write(smi, "echo 'NVIDIA A, 3277, 81559'; echo 'NVIDIA B, 0, 1024'; echo 'NVIDIA C, [N/A], [N/A]'")
    assert usage.gpu() == "NVIDIA A 3.2/80 GB; NVIDIA B 0.0/1 GB"
    assert usage.facts("gpu")["gpu"].startswith("NVIDIA A")
    assert set(usage.facts("cpu")) == {"rss_bytes"}


def test_a_driver_that_fails_says_nothing(smi: Path) -> None:
    assert set(usage.facts("gpu")) <= {"rss_bytes", "gpu"}
    write(smi, "echo 'NVIDIA-SMI has failed'; exit 6")
    assert usage.gpu() == ""
    smi.write_text("no program")
    assert usage.gpu() == ""
