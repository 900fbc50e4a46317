"""Listening sockets that the service manager made for this process (sd_listen_fds(3)).

A service whose unit has a socket unit beside it needs no network of its own: it answers who calls, and can call nobody.
"""

from __future__ import annotations

import contextlib
import os
import socket
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import MutableMapping

HEALTH: Final = "health"
"""`FileDescriptorName=` of the socket of the health and metrics endpoint."""

_FIRST: Final = 3  # SD_LISTEN_FDS_START
_VARIABLES: Final = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")


def sockets(environ: MutableMapping[str, str] | None = None) -> dict[str, socket.socket]:
    """The sockets by their names; none where they were meant for another process or there is no manager.

    Takes the manager's variables out and marks the descriptors, so that programs started later have neither.
    """
    environ = os.environ if environ is None else environ
    pid, count, names = (environ.pop(name, "") for name in _VARIABLES)
    if pid != str(os.getpid()) or not count.isdecimal():
        return {}
    found: dict[str, socket.socket] = {}
    for fd, name in zip(range(_FIRST, _FIRST + int(count)), names.split(":"), strict=False):
        with contextlib.suppress(OSError):  # a descriptor of another kind
            os.set_inheritable(fd, False)
            found[name] = socket.socket(fileno=fd)
    return found
