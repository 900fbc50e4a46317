"""What a killed supervisor left behind is ended; what somebody else started is not."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ironclad import processes
from ironclad.ops import leftovers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Start = Callable[..., subprocess.Popen[bytes]]

TINY = str(Path(__file__).with_name("tiny_service.py"))


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts an announced process."""
    started: list[subprocess.Popen[bytes]] = []

    def begin(name: str, *, supervisor: int | None, identity: str | None = None) -> subprocess.Popen[bytes]:
        process = subprocess.Popen([sys.executable, TINY, "stubborn"], process_group=0, stderr=subprocess.PIPE)
        started.append(process)
        assert process.stderr is not None
        process.stderr.readline()  # it ignores SIGTERM from here on
        data = {
            "name": name, "pid": process.pid, "identity": identity or processes.identity(process.pid),
            "host": "127.0.0.1", "port": 1, "supervisor": supervisor,
        }  # fmt: skip
        (tmp_path / f"{name}.json").write_text(json.dumps(data), encoding="utf-8")
        return process

    yield begin
    for process in started:
        process.kill()
        process.wait()
        assert process.stderr is not None
        process.stderr.close()


def test_a_service_of_an_earlier_supervisor_is_killed_after_the_patience(tmp_path: Path, start: Start) -> None:
    left = start("left", supervisor=1)
    told: list[str] = []
    leftovers.end(tmp_path, lambda entry: told.append(entry.name), patience_seconds=0.1)
    assert told == ["left"]
    assert left.wait(60) == -signal.SIGKILL


def test_a_service_that_ends_in_time_is_not_killed(tmp_path: Path, start: Start) -> None:
    left = start("left", supervisor=1)
    leftovers.end(tmp_path, lambda _entry: left.send_signal(signal.SIGINT), patience_seconds=60)
    assert left.wait(60) in {-signal.SIGINT, 1}


def test_a_service_started_by_hand_is_left_alone(tmp_path: Path, start: Start) -> None:
    by_hand = start("hand", supervisor=None)
    leftovers.end(tmp_path, lambda entry: pytest.fail(f"told of {entry.name}"), patience_seconds=0.1)
    assert by_hand.poll() is None


def test_a_stranger_with_the_process_id_of_an_old_service_is_left_alone(tmp_path: Path, start: Start) -> None:
    stranger = start("left", supervisor=1, identity="another boot/1")
    leftovers.end(tmp_path, lambda entry: pytest.fail(f"told of {entry.name}"), patience_seconds=0.1)
    assert stranger.poll() is None
