"""Which services and tasks a host has, before they become units (`ironclad.ops.install.units`)."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ironclad.config import is_loopback
from ironclad.errors import BadRequest
from ironclad.ops import directory

CONFIG: Final = Path("/etc/ironclad/ironclad.toml")
SECRETS: Final = Path("/etc/ironclad/secrets")
ROLES: Final = ("postgres", "prefect", "watch", "dispatch", "notify", "api", "worker")
TIMED: Final = "dispatch"
"""The role beside which timers dump, prune and drill."""
SOCKET_BYTES: Final = 90
"""Longest path of the embedded server's folder that can hold its socket (see `ironclad.db.embedded`)."""

_STOP_MARGIN: Final = 30.0
_HOMES: Final = (Path("/home"), Path("/root"), Path("/run/user"))


@dataclass(frozen=True, slots=True)
class Host:
    """What the units of a host depend on."""

    program: Path
    """The `ironclad` that they start; `python` is beside it."""
    data_dir: Path
    user: str = "ironclad"
    pools: tuple[str, ...] = ("cpu",)
    roles: tuple[str, ...] = ROLES
    """Which services run here, of `ROLES`."""
    drain_seconds: float = 60.0
    """`prefect.drain_seconds`."""
    api: str = "127.0.0.1"
    """`api.host`."""
    api_stop_seconds: float = 20.0
    """`api.stop_seconds`."""
    write_paths: tuple[Path, ...] = ()
    """Watch roots outside the data folder."""
    networks: tuple[str, ...] = ("localhost",)
    """Addresses that services may talk to, as IPAddressAllow= takes them; `any`: no limit."""
    endpoints: str = "127.0.0.1"
    """`services.host`: where health and metrics are answered."""
    base_port: int = 9640
    """`services.base_port`."""

    def __post_init__(self) -> None:
        """Refuse what would make units that cannot work. Raises `BadRequest`."""
        for path in (self.program, self.data_dir, *self.write_paths):
            if not path.is_absolute() or any(char.isspace() or char in "%\"'\\$:" for char in str(path)):
                raise BadRequest(f"{path}: units need absolute paths without spaces, quotes, %, $ and colons.")
        if not self.user.replace("-", "").replace("_", "").isalnum():
            raise BadRequest(f"{self.user} is no user name.")
        unknown = sorted({*self.roles} - {*ROLES})
        if unknown or not self.roles:
            raise BadRequest(f"There is no service {', '.join(unknown) or 'chosen'}; there is {', '.join(ROLES)}.")
        if self.embedded and len(str(self.data_dir / "postgres")) > SOCKET_BYTES:
            raise BadRequest(f"{self.data_dir} is too long for the embedded database; take a shorter path.")

    @property
    def embedded(self) -> bool:
        """Whether the embedded PostgreSQL server runs here."""
        return "postgres" in self.roles

    @property
    def fixed(self) -> bool:
        """Whether the endpoints' addresses are known now: no host's name, and no port that is chosen at the start."""
        try:
            ipaddress.ip_address(self.endpoints)
        except ValueError:
            return False
        return bool(self.base_port)

    @property
    def needs_home(self) -> bool:
        """Whether something that is used lies below a home folder."""
        paths = (self.program, self.data_dir, *self.write_paths)
        return any(path.is_relative_to(home) for path in paths for home in _HOMES)


@dataclass(frozen=True, slots=True)
class Service:
    """One service unit."""

    name: str
    description: str
    command: str
    after: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    """More lines of the section."""
    memory_high: str = "75%"
    memory_max: str = "90%"
    slice: str = "ironclad.slice"
    stop_seconds: float = 30.0
    start_seconds: float = 180.0
    decodes: bool = False
    compiles: bool = False
    notify: bool = True
    """Whether it is a service that stays and says when it is ready, not a task that ends."""
    calendar: str = ""
    """When a timer starts it (systemd.time); empty: the target does."""
    database: bool = True
    networks: tuple[str, ...] | None = None
    """Instead of the host's: the notifier's mail and chat servers may be anywhere."""
    offline: bool = False
    """Whether it has no network: the embedded database is a Unix socket, and it needs nothing else."""
    listen: str = ""
    """Where systemd listens for it (ListenStream=), by a socket unit of its name; empty: it does itself."""

    @property
    def socket(self) -> str:
        """The socket unit that listens for it."""
        return f"{self.name}.socket"


def _callers(host: Host) -> tuple[str, ...]:
    """Who may talk to the API: anybody where it listens on more than loopback and no network was named."""
    named = host.networks != ("localhost",)
    return host.networks if named or is_loopback(host.api) else ("any",)


def _listen(host: Host, role: str) -> str:
    """The address of a service's health endpoint, as ListenStream= takes it."""
    address = f"[{host.endpoints}]" if ":" in host.endpoints else host.endpoints
    return f"{address}:{host.base_port + directory.OFFSETS[role]}"


def of(host: Host) -> list[Service]:
    """The services and tasks of a host, in the order of their needs."""
    run = f"{host.program} run"
    server = ("ironclad-postgres.service",) if host.embedded else ()
    schema = "ironclad-schema.service"
    prefect = ("ironclad-prefect.service",) if "prefect" in host.roles else ()
    # Without a socket that systemd can listen on, an offline service could tell nobody of its health.
    inside = host.embedded and host.fixed
    found = {
        "postgres": Service(
            "ironclad-postgres",
            "Ironclad: the embedded PostgreSQL server",
            f"{run} postgres",
            database=False,
            stop_seconds=90.0,
            memory_high="2G",
            memory_max="3G",
            networks=("localhost",),
            offline=inside,
            listen=_listen(host, "postgres") if inside else "",
            settings=(
                "# It is the last to be killed when memory runs out: everything else can be started again.",
                "OOMScoreAdjust=-500",
            ),
        ),
        "prefect": Service(
            "ironclad-prefect",
            "Ironclad: the Prefect server",
            f"{run} prefect",
            after=server,
            memory_high="1500M",
            memory_max="2G",
        ),
        "watch": Service(
            "ironclad-watch",
            "Ironclad: watches folders for new files",
            f"{run} watch",
            after=(schema,),
            memory_high="1G",
            memory_max="2G",
            offline=inside,
            listen=_listen(host, "watch") if inside else "",
        ),
        "dispatch": Service(
            "ironclad-dispatch",
            "Ironclad: dispatcher and reaper",
            f"{run} dispatch",
            after=(schema, *prefect),
            memory_high="1G",
            memory_max="2G",
        ),
        "notify": Service(
            "ironclad-notify",
            "Ironclad: tells people",
            f"{run} notify",
            after=(schema,),
            memory_high="500M",
            memory_max="1G",
            networks=("any",),
        ),
        "api": Service(
            "ironclad-api",
            "Ironclad: the control API",
            f"{run} api",
            after=(schema,),
            memory_high="1G",
            memory_max="2G",
            stop_seconds=host.api_stop_seconds + _STOP_MARGIN,
            networks=_callers(host),
        ),
        "worker": Service(
            "ironclad-worker@",
            "Ironclad: worker of pool %i",
            f"{run} worker --pool %i",
            after=(schema, *prefect),
            decodes=True,
            compiles=True,
            slice="ironclad-work.slice",
            stop_seconds=host.drain_seconds + _STOP_MARGIN,
            settings=(
                "# An engine that runs out of memory dies alone; the worker says so, steps down and goes on.",
                "OOMPolicy=continue",
            ),
        ),
    }
    task = Service(
        "ironclad-schema",
        "Ironclad: the database's tables",
        f"{host.program.with_name('python')} -m ironclad.ops.prepare schema",
        after=server,
        notify=False,
        start_seconds=300.0,
        memory_high="500M",
        memory_max="1G",
        offline=host.embedded,
        settings=(
            "RemainAfterExit=yes",
            "# A database that is away is tried again; one that needs `ironclad upgrade apply` (78) stays as it is.",
            "Restart=on-failure",
            "RestartSec=10s",
            "RestartPreventExitStatus=78",
        ),
    )
    chosen = [found[role] for role in ROLES if role in host.roles]
    if {"watch", "dispatch", "notify", "api", "worker"} & {*host.roles}:
        chosen.append(task)
    if TIMED in host.roles:
        chosen += _timed(host, (schema,))
    return chosen


def _timed(host: Host, after: tuple[str, ...]) -> list[Service]:
    """Tasks that timers start, on the host of the dispatcher: one of several hosts."""
    tasks = (
        # Name, what it is, its command, when, how long it may take.
        ("backup", "a dump of the database", "backup create", "*-*-* 03:15:00", 7200.0),
        ("verify", "restores the newest dump for a trial", "backup verify", "Sun *-*-* 04:15:00", 14400.0),
        ("prune", "deletes what is too old or over its quota", "prune", "*-*-* 05:15:00", 7200.0),
    )
    return [
        Service(
            f"ironclad-{name}",
            f"Ironclad: {what}",
            f"{host.program} {command}",
            after=after,
            notify=False,
            calendar=calendar,
            start_seconds=seconds,
            slice="ironclad-work.slice",
            memory_high="1G",
            memory_max="2G",
            offline=host.embedded,
        )
        for name, what, command, calendar, seconds in tasks
    ]
