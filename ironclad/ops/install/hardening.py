"""What a systemd unit of ours may not do, with what breaks or becomes possible without each line.

Left out on purpose: `ProcSubset=pid` hides the boot id, by which leases tell machines apart. `PrivateUsers=` puts each
service into a user namespace of its own, and together with `ProtectProc=` hides them from each other: the reaper asks
the kernel by signal 0 whether a process that it cannot see is there (`ironclad.processes.gone`).

Scored by `systemd-analyze security`; each line was tried with the services running under systemd as process 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Collection


@dataclass(frozen=True, slots=True)
class Line:
    """One directive with its reason."""

    name: str
    value: str
    reason: str

    def text(self) -> str:
        """As it stands in a unit."""
        return f"# {self.reason}\n{self.name}={self.value}"


_COMMON: Final = (
    Line("NoNewPrivileges", "yes", "A setuid program would be a way out of everything below."),
    Line("CapabilityBoundingSet", "", "No capability is needed: ports are above 1024 and files are our own."),
    Line("AmbientCapabilities", "", "Likewise: nothing is inherited either."),
    Line("ProtectSystem", "strict", "Without it /usr, /etc and the program itself could be overwritten."),
    Line("PrivateTmp", "yes", "Without it other users' files in /tmp could be read, and ours be planted there."),
    Line("PrivateUsers", "yes", "Without it a way to root in here would be root of the host."),
    Line("PrivateMounts", "yes", "A mount made in here would otherwise show up on the whole machine."),
    Line(
        "ProtectKernelTunables", "yes", "Without it /proc/sys and /sys could be written if the user ever gained root."
    ),
    Line("ProtectKernelModules", "yes", "Without it modules could be loaded by a process that gained root."),
    Line("ProtectKernelLogs", "yes", "The kernel's log tells addresses that help to break out."),
    Line("ProtectControlGroups", "yes", "Without it a process could lift its own memory limit."),
    Line("ProtectClock", "yes", "Leases are told by the database's clock; nothing of ours sets one."),
    Line("ProtectHostname", "yes", "A changed host name would give every service a second row in `ironclad status`."),
    Line("ProtectProc", "invisible", "Other users' command lines and environments stay hidden; our own are needed."),
    Line("LockPersonality", "yes", "Foreign system call tables are of use to attackers only."),
    Line("RestrictRealtime", "yes", "A real-time loop would take the machine away from everything else."),
    Line("RestrictSUIDSGID", "yes", "No file of ours may lend its owner's rights to others."),
    Line("RemoveIPC", "yes", "Shared memory of a killed service would otherwise stay until the next boot."),
    Line("KeyringMode", "private", "Kernel keys of other sessions are none of our business."),
    Line("SystemCallArchitectures", "native", "The 32-bit entry has had more holes than users."),
    Line("SystemCallErrorNumber", "EPERM", "A refused call is an error that is handled, not a killed service."),
    Line("UMask", "0027", "Songs are for the service's group (add your media server to it), not for everybody."),
)

_NO_NAMESPACES: Final = Line("RestrictNamespaces", "yes", "Nothing here makes a namespace, the usual first step out.")
_DECODER_NAMESPACES: Final = Line(
    "RestrictNamespaces", "user net", "The decoder leaves the network by these two; without them it keeps it."
)
_NO_NEW_CODE: Final = Line("MemoryDenyWriteExecute", "yes", "Nothing here compiles at run time; injected code does.")
_JIT: Final = Line(
    "MemoryDenyWriteExecute", "no", "PyTorch compiles at run time: `yes` ends in `could not create a primitive`."
)
_NO_DEVICES: Final = Line("PrivateDevices", "yes", "No sound card, disk or GPU is needed; /dev/null and its like stay.")
_CALLS: Final = Line(
    "SystemCallFilter", "@system-service", "What services need; mount, reboot, ptrace and so on do not."
)
_NO_PRIVILEGED: Final = Line("SystemCallFilter", "~@privileged @resources", "Nor changes of owner, identity, priority.")


def lines(*, decodes: bool = False, compiles: bool = False) -> tuple[Line, ...]:
    """The lines of a service.

    Args:
        decodes: it opens untrusted media in children that leave the network by themselves.
        compiles: it runs libraries that make code at run time.
    """
    return (
        *_COMMON,
        _NO_DEVICES,
        _DECODER_NAMESPACES if decodes else _NO_NAMESPACES,
        _JIT if compiles else _NO_NEW_CODE,
        _CALLS,
        _NO_PRIVILEGED,
    )


def network(allowed: Collection[str]) -> tuple[Line, ...]:
    """What a service may do on the network.

    Args:
        allowed: addresses that it may talk to, as `IPAddressAllow=` takes them; `any` for no limit.
    """
    return (
        Line("RestrictAddressFamilies", "AF_UNIX AF_INET AF_INET6", "No raw, packet or netlink sockets are used."),
        *_addresses(allowed),
    )


def offline() -> tuple[Line, ...]:
    """A service without a network; what systemd listens on for it is handed to it open."""
    return (
        Line("PrivateNetwork", "yes", "Without it a hijacked process could send your music and tags anywhere."),
        Line("RestrictAddressFamilies", "AF_UNIX", "The database is a Unix socket; nothing else is opened."),
    )


def _addresses(allowed: Collection[str]) -> tuple[Line, ...]:
    if "any" in allowed:
        return ()
    return (
        Line("IPAddressDeny", "any", "Without it a hijacked process could send your music and tags anywhere."),
        Line("IPAddressAllow", " ".join(allowed), "The database, Prefect and the health endpoints."),
    )


def home(*, needed: bool) -> Line:
    """Whether /home and /root are there.

    Args:
        needed: the program, the data or a watch root is below them.
    """
    if needed:
        return Line(
            "ProtectHome", "read-only", "The program or the data is below a home folder; the rest is not written."
        )
    return Line("ProtectHome", "yes", "Without it keys and mail of people with an account here could be read.")
