"""Engine hosts are found below a worker by their command lines; memory by engine, never by process."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from ironclad.engines.client import EngineHost
from ironclad.engines.registry import installed_engines
from ironclad.ops import engine_hosts
from ironclad.ops.engine_hosts import EngineHostReader, entry_of, gpu_memory, installed
from ironclad.ops.metrics import Metrics

if TYPE_CHECKING:
    from pathlib import Path


def value(metrics: Metrics, name: str, engine: str) -> float | None:
    metrics.render()
    return metrics.registry.get_sample_value(name, {"engine": engine})


def test_a_running_host_is_counted_with_its_memory() -> None:
    metrics = Metrics("worker-cpu", process=False)
    gpu: dict[int, int] = {}
    reader = EngineHostReader(metrics, installed, gpu=lambda: gpu)
    assert value(metrics, "ironclad_engine_hosts", "center") == 0  # there from the start
    with EngineHost(installed_engines().get("center")) as host:
        gpu[host.pid] = 7 << 20
        assert value(metrics, "ironclad_engine_hosts", "center") == 1
        assert (value(metrics, "ironclad_engine_host_resident_bytes", "center") or 0) > 1 << 20
        assert value(metrics, "ironclad_engine_host_gpu_bytes", "center") == 7 << 20
    assert value(metrics, "ironclad_engine_hosts", "center") == 0
    assert value(metrics, "ironclad_engine_host_resident_bytes", "center") == 0
    assert reader is not None


def test_command_lines() -> None:
    assert entry_of(["python", "-I", "-m", "ironclad.engines.host", "--entry", "a:b", "--parent", "1"]) == "a:b"
    assert entry_of(["/x/bin/python", "-I", "/y/ironclad/engines/host/launch.py", "--entry", "c:d"]) == "c:d"
    assert entry_of(["grep", "--entry", "engines/host"]) is None
    assert entry_of(["python", "-m", "ironclad.engines.host", "--entry"]) is None
    assert entry_of([]) is None


@pytest.fixture
def nvidia_smi(tmp_path: Path) -> Path:
    """Strict: only the one question that is asked."""
    program = tmp_path / "nvidia-smi"
    program.write_text(
        f"#!{sys.executable}\nimport sys\n"
        "assert sys.argv[1:] == ['--query-compute-apps=pid,used_memory', '--format=csv,noheader,nounits'], sys.argv\n"
        "print('11, 512\\n11, 256\\n12, [N/A]')\n",
        encoding="utf-8",
    )
    program.chmod(0o755)
    return program


def test_gpu_memory_by_process(nvidia_smi: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_hosts, "_GPU_TIMEOUT", 60.0)  # an interpreter starts, which may take its time here
    assert gpu_memory(str(nvidia_smi)) == {11: 768 << 20}


def test_no_gpu_is_no_error(tmp_path: Path) -> None:
    assert gpu_memory(str(tmp_path / "none")) == {}
    broken = tmp_path / "broken"
    broken.write_text("#!/bin/sh\nexit 9\n", encoding="utf-8")
    broken.chmod(0o755)
    assert gpu_memory(str(broken)) == {}


def test_a_dead_worker_has_no_hosts() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    metrics = Metrics("worker-cpu", process=False)
    reader = EngineHostReader(metrics, dict, pid=child.pid)
    child.communicate(b"\n")
    reader.refresh()
    assert metrics.registry.get_sample_value("ironclad_engine_hosts", {"engine": "other"}) == 0
    assert os.getpid() > 0
