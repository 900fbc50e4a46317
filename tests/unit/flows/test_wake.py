from __future__ import annotations

import select
from typing import TYPE_CHECKING

from ironclad_flows.wake import WakeSocket, wake

if TYPE_CHECKING:
    from pathlib import Path


def woken(*sockets: WakeSocket) -> list[WakeSocket]:
    return select.select(list(sockets), [], [], 0)[0]


def test_waking_reaches_the_workers_of_that_pool_only(tmp_path: Path) -> None:
    cpu = WakeSocket(tmp_path, "cpu")
    gpu = WakeSocket(tmp_path, "gpu")
    assert wake(tmp_path, "cpu") == 1
    assert woken(cpu, gpu) == [cpu]
    cpu.drain()
    assert woken(cpu, gpu) == []
    cpu.close()
    gpu.close()


def test_a_pool_whose_name_begins_alike_is_another_pool(tmp_path: Path) -> None:
    longer = WakeSocket(tmp_path, "gpu-big")
    assert wake(tmp_path, "gpu") == 0
    assert woken(longer) == []
    longer.close()


def test_nobody_to_wake_is_fine(tmp_path: Path) -> None:
    assert wake(tmp_path, "cpu") == 0
    assert wake(tmp_path / "missing", "cpu") == 0


def test_a_worker_that_does_not_read_never_blocks_the_waker(tmp_path: Path) -> None:
    sleepy = WakeSocket(tmp_path, "cpu")
    assert all(wake(tmp_path, "cpu") == 1 for _ in range(2000))
    sleepy.drain()
    assert woken(sleepy) == []
    sleepy.close()


def test_what_a_killed_worker_left_is_cleared(tmp_path: Path) -> None:
    dead = WakeSocket(tmp_path, "cpu")
    dead._socket.close()
    assert wake(tmp_path, "cpu") == 0
    assert list(tmp_path.iterdir()) == []


def test_closing_leaves_nothing(tmp_path: Path) -> None:
    WakeSocket(tmp_path, "cpu").close()
    assert list(tmp_path.iterdir()) == []


def test_a_deep_data_folder_is_no_obstacle(tmp_path: Path) -> None:
    deep = tmp_path / ("x" * 120) / ("y" * 120)
    listening = WakeSocket(deep, "cpu")
    assert wake(deep, "cpu") == 1
    listening.close()


def test_only_its_owner_may_wake_a_worker(tmp_path: Path) -> None:
    listening = WakeSocket(tmp_path, "cpu")
    (path,) = tmp_path.iterdir()
    assert path.stat().st_mode & 0o077 == 0
    listening.close()
