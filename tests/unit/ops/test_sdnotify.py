from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import pytest

from ironclad.ops.notify_socket import NotifySocket
from ironclad.ops.sdnotify import Notifier

if TYPE_CHECKING:
    from pathlib import Path


def test_messages_arrive_at_an_abstract_socket_with_their_sender() -> None:
    manager = NotifySocket()
    assert manager.address.startswith("@")
    Notifier(manager.address).ready("ready at\nlast")
    Notifier(manager.address).stopping()
    first, second = manager.receive()
    assert (first.pid, second.pid) == (os.getpid(), os.getpid())
    assert first.assignments == (("READY", "1"), ("STATUS", "ready at last"))
    assert second.assignments == (("STOPPING", "1"), ("STATUS", "stopping"))
    assert list(manager.receive()) == []
    manager.close()


def test_messages_arrive_at_a_socket_file(tmp_path: Path) -> None:
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(path)
        Notifier(path).watchdog()
        assert manager.recv(100) == b"WATCHDOG=1"


@pytest.mark.parametrize("address", [None, "@nobody-listens-here", "/nonexistent/socket"])
def test_without_a_manager_nothing_happens(address: str | None) -> None:
    assert Notifier(address).send("READY=1") is False


def test_the_environment_is_read_once_and_not_inherited() -> None:
    environ = {"NOTIFY_SOCKET": "@x", "WATCHDOG_USEC": "2500000", "WATCHDOG_PID": str(os.getpid()), "OTHER": "1"}
    assert Notifier.from_environment(environ) == Notifier("@x", 2.5)
    assert environ == {"OTHER": "1"}


@pytest.mark.parametrize(
    "environ",
    [{"WATCHDOG_USEC": "1000", "WATCHDOG_PID": "1"}, {"WATCHDOG_USEC": "nonsense"}, {"WATCHDOG_USEC": "0"}, {}],
)
def test_a_watchdog_for_somebody_else_or_none_is_none(environ: dict[str, str]) -> None:
    assert Notifier.from_environment(environ).watchdog_seconds is None
