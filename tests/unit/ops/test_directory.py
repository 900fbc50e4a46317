from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest

from ironclad import processes
from ironclad.config import load
from ironclad.errors import AlreadyRunning, NotFound
from ironclad.ops import directory

if TYPE_CHECKING:
    from pathlib import Path

    from ironclad.config import Settings


def with_pools(*pools: str, base_port: int = 9640) -> Settings:
    return load(
        {"pools": {pool: {"slots": 1} for pool in pools}, "services": {"base_port": base_port}},
        environ={"IRONCLAD_DATA_DIR": "/nonexistent"},
    )


def test_every_service_has_a_port_of_its_own() -> None:
    settings = with_pools("cpu", "gpu", "big", "small")
    names = [*directory.OFFSETS, "worker-big", "worker-small"]
    ports = {name: directory.port_of(name, settings) for name in names}
    assert len(set(ports.values())) == len(names)
    assert ports["supervisor"] == 9640
    assert ports["worker-gpu"] == 9644


def test_free_ports_where_the_settings_ask_for_them() -> None:
    assert directory.port_of("watch", with_pools("cpu", base_port=0)) == 0


def test_a_worker_of_an_unknown_pool_has_none() -> None:
    with pytest.raises(NotFound, match="worker-nonsense"):
        directory.port_of("worker-nonsense", with_pools("cpu"))


def test_announcing_finding_and_withdrawing(tmp_path: Path) -> None:
    announcement = directory.announce(tmp_path / "run", "watch", "0.0.0.0", 1234, supervisor=7)  # noqa: S104 - not bound
    found = directory.find(tmp_path / "run", "watch")
    assert found == announcement
    assert (found.pid, found.supervisor, found.url, found.alive) == (os.getpid(), 7, "http://127.0.0.1:1234", True)
    assert directory.announced(tmp_path / "run") == [announcement]
    directory.withdraw(tmp_path / "run", announcement)
    assert directory.announced(tmp_path / "run") == []
    directory.withdraw(tmp_path / "run", announcement)


def test_the_announcement_of_a_successor_stays(tmp_path: Path) -> None:
    old = directory.announce(tmp_path, "watch", "::1", 1)
    new = directory.announce(tmp_path, "watch", "::1", 2)
    directory.withdraw(tmp_path, old)
    assert directory.find(tmp_path, "watch") == new
    assert new.url == "http://[::1]:2"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"name": "watch"}', '{"unknown": 1}'])
def test_a_damaged_announcement_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "watch.json").write_text(text, encoding="utf-8")
    assert directory.find(tmp_path, "watch") is None
    assert directory.announced(tmp_path) == []


def test_a_later_process_with_the_same_id_is_not_alive(tmp_path: Path) -> None:
    directory.announce(tmp_path, "watch", "127.0.0.1", 1)
    path = tmp_path / "watch.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "identity": "another boot/12345"}), encoding="utf-8")
    found = directory.find(tmp_path, "watch")
    assert found is not None
    assert not found.alive


def test_a_lock_is_held_by_one_and_names_it(tmp_path: Path) -> None:
    first = directory.hold(tmp_path, "watch")
    with pytest.raises(AlreadyRunning, match=f"process {os.getpid()}"):
        directory.hold(tmp_path, "watch")
    os.close(first)
    os.close(directory.hold(tmp_path, "watch"))


def test_identity_of_processes() -> None:
    mine = processes.identity(os.getpid())
    assert mine is not None
    assert mine == processes.identity(os.getpid())
    assert mine != processes.identity(1)
    assert processes.identity(2**22 + 1) is None
