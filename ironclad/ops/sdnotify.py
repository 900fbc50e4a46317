"""The service manager's notification protocol (sd_notify(3)), both kinds of socket address."""

from __future__ import annotations

import contextlib
import os
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import MutableMapping

_VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")


def sockaddr(address: str) -> str:
    """The kernel's spelling of `NOTIFY_SOCKET`: a leading `@` stands for the abstract namespace."""
    return "\0" + address[1:] if address.startswith("@") else address


@dataclass(frozen=True, slots=True)
class Notifier:
    """Tells the manager (systemd, or `ironclad up`) how this process is. Without a manager it does nothing."""

    address: str | None = None
    watchdog_seconds: float | None = None
    """Silence after which the manager takes this process for hung; None: it does not watch."""

    @classmethod
    def from_environment(cls, environ: MutableMapping[str, str] | None = None) -> Notifier:
        """Read the manager's variables and take them out, so that programs started later do not speak for us."""
        environ = os.environ if environ is None else environ
        address, usec, pid = (environ.pop(name, None) for name in _VARIABLES)
        seconds = None
        if usec is not None and (pid is None or pid == str(os.getpid())):
            with contextlib.suppress(ValueError):
                seconds = int(usec) / 1e6 or None
        return cls(address or None, seconds)

    def send(self, *assignments: str) -> bool:
        """Send `NAME=value` assignments; False if nobody listens. A manager that went away is no reason to fail."""
        if self.address is None:
            return False
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
                sock.setblocking(False)
                sock.sendto("\n".join(assignments).encode(), sockaddr(self.address))
        except OSError:
            return False
        return True

    def ready(self, status: str) -> None:
        """Start-up is over."""
        self.send("READY=1", f"STATUS={_line(status)}")

    def status(self, status: str) -> None:
        """One line for the operator."""
        self.send(f"STATUS={_line(status)}")

    def watchdog(self, *, ready: bool = False) -> None:
        """Still alive; and `ready`, should the manager's queue have been full when that was said."""
        self.send("WATCHDOG=1", *(["READY=1"] if ready else []))

    def stopping(self) -> None:
        """Stopping has begun."""
        self.send("STOPPING=1", "STATUS=stopping")


def _line(text: str) -> str:
    return " ".join(text.split())
