"""What Ironclad needs goes away and comes back: it waits, says so, and goes on alone."""

from __future__ import annotations

import json
import os
import signal
from typing import TYPE_CHECKING

import pytest
from installation import Installation, until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = [pytest.mark.services, pytest.mark.slow, pytest.mark.timeout(300), pytest.mark.xdist_group("services")]


def test_a_full_disk_stops_new_work_and_room_lets_it_go_on(tmp_path: Path, make_song: Callable[..., Path]) -> None:
    """The floor is raised above what is free, as seen by a restarted dispatcher, then lowered again."""
    settings = tmp_path / "ironclad.toml"
    settings.write_text("[disk]\nmin_free_bytes = 1_000_000_000_000_000\n")
    own = {"IRONCLAD_CONFIG": str(settings), "IRONCLAD_DISK__MIN_FREE_BYTES": None}
    with Installation(tmp_path / "data", own) as up:
        up.drop(make_song(tmp_path / "a.flac", 3.0))
        until("it says that the disk is full", lambda: "disk" in up.ironclad("status").stdout.lower(), 120)
        assert up.published() == []
        assert up.rows("SELECT 1 FROM job WHERE state = 'running'") == []
        settings.write_text("[disk]\nmin_free_bytes = 1_000_000\n")
        for service in ("dispatch", "watch", "worker-cpu"):  # settings are read at start
            pid = up.pid_of(service)
            assert pid is not None
            os.kill(pid, signal.SIGTERM)
        assert up.settled(1, 120) == {"succeeded": 1}


def test_the_database_and_prefect_may_go_away_in_the_middle(tmp_path: Path, make_song: Callable[..., Path]) -> None:
    with Installation(tmp_path / "data", {"IRONCLAD_JOBS__LEASE_SECONDS": "20"}) as up:
        for number in range(4):
            up.drop(make_song(tmp_path / f"{number}.flac", 5.0, number, title=f"S{number}"))
        until("something runs", lambda: up.rows("SELECT 1 FROM job WHERE state = 'running'"), 120)
        for victim in ("postgres", "prefect"):
            until(f"{victim} runs", lambda victim=victim: up.pid_of(victim), 120)
            pid = up.pid_of(victim)
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
            until(f"{victim} is back", lambda victim=victim, pid=pid: up.pid_of(victim) not in {None, pid}, 120)
        assert up.settled(4, 200) == {"succeeded": 4}
        assert len(up.published()) == 4
        failures = up.rows("SELECT failures FROM job WHERE failures > 2")
        assert failures == []


def test_start_and_stop_leave_nothing_and_lose_nothing(tmp_path: Path, make_song: Callable[..., Path]) -> None:
    up = Installation(tmp_path / "data")
    with up:
        up.drop(make_song(tmp_path / "a.flac", 8.0))
        until("it runs", lambda: up.rows("SELECT 1 FROM job WHERE state IN ('running', 'queued')"), 120)
        assert up.stop() == 0  # in the middle
    assert up.processes() == []
    assert up.server.pid() is None
    with up:
        assert up.settled(1, 120) == {"succeeded": 1}
        second = up.ironclad("up", check=False)
        assert second.returncode == 3
        assert "E_ALREADY_RUNNING" in second.stderr
        status = json.loads(up.ironclad("status", "--json").stdout)
        assert status["states"]["succeeded"] == 1
