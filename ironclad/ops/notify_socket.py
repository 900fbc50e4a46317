"""The manager's end of sd_notify(3): where the children's notifications arrive, with who sent each."""

from __future__ import annotations

import os
import secrets
import socket
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ironclad.ops.sdnotify import sockaddr

if TYPE_CHECKING:
    from collections.abc import Iterator

_LONGEST = 4096
_CREDENTIALS = struct.Struct("3i")  # struct ucred: process, user, group


@dataclass(frozen=True, slots=True)
class Notification:
    """One message: its `NAME=value` assignments, and the process that the kernel says sent it."""

    pid: int
    assignments: tuple[tuple[str, str], ...]


class NotifySocket:
    """A datagram socket in the abstract namespace: no file to clean up, no limit on the data folder's path."""

    def __init__(self) -> None:
        self.address = f"@ironclad-{os.getpid()}-{secrets.token_hex(8)}"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._socket.bind(sockaddr(self.address))

    def fileno(self) -> int:
        """For selectors."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close it."""
        self._socket.close()

    def receive(self) -> Iterator[Notification]:
        """Everything that has arrived; does not wait."""
        while True:
            try:
                data, ancillary, _flags, _address = self._socket.recvmsg(_LONGEST, socket.CMSG_SPACE(_CREDENTIALS.size))
            except BlockingIOError:
                return
            pid = _sender(ancillary)
            if pid is not None:
                pairs = (line.partition("=") for line in data.decode("utf-8", "replace").splitlines())
                yield Notification(pid, tuple((name, value) for name, _, value in pairs))


def _sender(ancillary: list[tuple[int, int, bytes]]) -> int | None:
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_CREDENTIALS and len(data) >= _CREDENTIALS.size:
            pid: int = _CREDENTIALS.unpack(data[: _CREDENTIALS.size])[0]
            return pid
    return None
