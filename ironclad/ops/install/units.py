"""The systemd units of a host, as text."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from ironclad.errors import BadRequest
from ironclad.ops import directory
from ironclad.ops.install import hardening

if TYPE_CHECKING:
    from collections.abc import Mapping


UNITS: Final = Path("etc/systemd/system")
CONFIG: Final = Path("/etc/ironclad/ironclad.toml")
SECRETS: Final = Path("/etc/ironclad/secrets")
ROLES: Final = ("postgres", "prefect", "watch", "dispatch", "worker")
TIMED: Final = "dispatch"
"""The role beside which timers dump, prune and drill."""
SOCKET_BYTES: Final = 90
"""Longest path of the embedded server's folder that can hold its socket (see `ironclad.db.embedded`)."""

_DRAIN_MARGIN: Final = 30.0
_HOMES: Final = (Path("/home"), Path("/root"), Path("/run/user"))
_WATCHDOG: Final = "60s"


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
    write_paths: tuple[Path, ...] = ()
    """Watch roots outside the data folder."""
    networks: tuple[str, ...] = ("localhost",)
    """Addresses that services may talk to, as IPAddressAllow= takes them; `any`: no limit."""

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
    """Instead of the host's."""


def render(host: Host) -> dict[Path, str]:
    """Every file, by its path below the root of the file system.

    Args:
        host: this one.
    """
    services = _services(host)
    files = {UNITS / f"{service.name}.service": _service(service, host) for service in services}
    files |= {UNITS / f"{service.name}.timer": _timer(service) for service in services if service.calendar}
    files[UNITS / "ironclad.target"] = _target(host)
    files[UNITS / "ironclad.slice"] = _SLICE
    files[UNITS / "ironclad-work.slice"] = _WORK_SLICE
    if "worker" in host.roles and "gpu" in host.pools:
        files[UNITS / "ironclad-worker@gpu.service.d" / "10-gpu.conf"] = _GPU
    files[Path("etc/sysusers.d/ironclad.conf")] = _sysusers(host)
    files[Path("etc/tmpfiles.d/ironclad.conf")] = _tmpfiles(host)
    return files


def _services(host: Host) -> list[Service]:
    run = f"{host.program} run"
    server = ("ironclad-postgres.service",) if host.embedded else ()
    schema = "ironclad-schema.service"
    prefect = ("ironclad-prefect.service",) if "prefect" in host.roles else ()
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
        ),
        "dispatch": Service(
            "ironclad-dispatch",
            "Ironclad: dispatcher and reaper",
            f"{run} dispatch",
            after=(schema, *prefect),
            memory_high="1G",
            memory_max="2G",
        ),
        "worker": Service(
            "ironclad-worker@",
            "Ironclad: worker of pool %i",
            f"{run} worker --pool %i",
            after=(schema, *prefect),
            decodes=True,
            compiles=True,
            slice="ironclad-work.slice",
            stop_seconds=host.drain_seconds + _DRAIN_MARGIN,
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
        settings=(
            "RemainAfterExit=yes",
            "# A database that is away is tried again; one that needs `ironclad upgrade apply` (78) stays as it is.",
            "Restart=on-failure",
            "RestartSec=10s",
            "RestartPreventExitStatus=78",
        ),
    )
    chosen = [found[role] for role in ROLES if role in host.roles]
    if {"watch", "dispatch", "worker"} & {*host.roles}:
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
        )
        for name, what, command, calendar, seconds in tasks
    ]


def _service(service: Service, host: Host) -> str:
    unit = [
        "[Unit]",
        f"Description={service.description}",
        f"After={' '.join(['network-online.target', *service.after])}",
        "Wants=network-online.target",
        *(_wants(service.after) if service.after else []),
        "PartOf=ironclad.target",
        "# Missing folders (an unmounted disk) stop the start instead of filling the disk below.",
        f"RequiresMountsFor={' '.join(map(str, (host.data_dir, *host.write_paths)))}",
        *_LIMITS,
        "",
    ]
    install = [] if service.calendar else ["", "[Install]", "WantedBy=ironclad.target"]
    return "\n".join([*_HEAD, *unit, *_section(service, host), *install, ""])


def _timer(service: Service) -> str:
    return "\n".join(
        [
            *_HEAD, "[Unit]", f"Description={service.description}, by the clock", "PartOf=ironclad.target", "",
            "[Timer]", f"OnCalendar={service.calendar}",
            "# Hosts that share a disk or a server do not all begin at once.", "RandomizedDelaySec=20min",
            "# A machine that was off at that time does it when it is on again.", "Persistent=yes", "",
            "[Install]", "WantedBy=ironclad.target", "",
        ]
    )  # fmt: skip


def _wants(units: tuple[str, ...]) -> list[str]:
    return [
        "# Not Requires=: a database that starts again must not stop its users; they wait for it by themselves.",
        f"Wants={' '.join(units)}",
    ]


def _section(service: Service, host: Host) -> list[str]:
    lines = [
        "[Service]",
        f"Type={'notify' if service.notify else 'oneshot'}",
        f"ExecStart={service.command}",
        f"User={host.user}",
        f"Group={host.user}",
        f"WorkingDirectory={host.data_dir}",
        f"Environment=IRONCLAD_DATA_DIR={host.data_dir}",
    ]
    if service.database and host.embedded:
        lines += [
            "# A Unix socket that only this user can open: no secret. A file secrets/database_url wins over it.",
            f"Environment=IRONCLAD_DATABASE_URL={socket_url(host.data_dir)}",
        ]
    if service.database:
        lines += [
            "# Each file in this folder is a secret setting, named like it (database_url). Readable by root alone, it",
            "# reaches the service by memory that is never written to disk, never by environment or command line.",
            f"LoadCredential=ironclad:{SECRETS}",
            "Environment=IRONCLAD_SECRETS_DIR=%d",
        ]
    if service.notify:
        lines += [*_RESTART, f"WatchdogSec={_WATCHDOG}"]
    lines += [
        f"TimeoutStartSec={math.ceil(service.start_seconds)}s",
        "# Longer than it needs: the runs of a worker have prefect.drain_seconds of it, then go back to the queue.",
        f"TimeoutStopSec={math.ceil(service.stop_seconds)}s",
        "# Only the service itself is told to stop: it knows in which order its children end.",
        "KillMode=mixed",
        *service.settings,
        f"Slice={service.slice}",
        "# At the first limit the kernel takes memory back from it, at the second it ends something in it.",
        f"MemoryHigh={service.memory_high}",
        f"MemoryMax={service.memory_max}",
        "TasksMax=2048",
        "",
        "# The only places that it may write to.",
        f"ReadWritePaths={' '.join(map(str, (host.data_dir, *host.write_paths)))}",
    ]
    hardened = [
        *hardening.lines(decodes=service.decodes, compiles=service.compiles),
        hardening.home(needed=host.needs_home),
        *hardening.network(host.networks if service.networks is None else service.networks),
    ]
    return [*lines, *(line.text() for line in hardened)]


def socket_url(data_dir: Path) -> str:
    """The embedded server's database as libpq and SQLAlchemy both understand it; no `%`, which units would expand."""
    folder = quote(str(data_dir / "postgres"), safe="/")
    return f"postgresql://ironclad@/ironclad?host={folder}"


def settings_file(host: Host) -> str:
    """The settings file of a host that has none yet: enough for the command line to find the data."""
    head = "# Every setting is in docs/settings.md; `ironclad config validate` checks this file."
    return f'{head}\ndata_dir = "{host.data_dir}"\n'


def wanted(host: Host) -> list[str]:
    """The units that the target starts."""
    names = [f"ironclad-{role}.service" for role in ROLES if role in host.roles and role != "worker"]
    if "worker" in host.roles:
        names += [f"ironclad-{directory.WORKER_PREFIX.rstrip('-')}@{pool}.service" for pool in host.pools]
    return names + [f"{service.name}.timer" for service in _services(host) if service.calendar]


def _target(host: Host) -> str:
    return "\n".join(
        [
            *_HEAD, "[Unit]", "Description=Ironclad: everything of this host",
            "# Stopping or restarting the target stops or restarts them all (PartOf= in each).",
            *(f"Wants={name}" for name in wanted(host)), "After=network-online.target", "",
            "[Install]", "WantedBy=multi-user.target", "",
        ]
    )  # fmt: skip


def _sysusers(host: Host) -> str:
    return "\n".join([*_HEAD, f'u {host.user} - "Ironclad" {host.data_dir}', ""])


def _tmpfiles(host: Host) -> str:
    user = host.user
    rows: Mapping[str, str] = {
        f"d {host.data_dir} 0750 {user} {user} -": "Songs and the library: readable by the group, for media servers.",
        f"d {host.data_dir}/input 2770 {user} {user} -": "Members of the group drop files here; files get the group.",
        f"d {CONFIG.parent} 0755 root root -": "The settings file is no secret.",
        f"d {SECRETS} 0750 root {user} -": "Secrets: given to services as credentials; the group for the command line.",
    }
    return "\n".join([*_HEAD, *(line for row, why in rows.items() for line in (f"# {why}", row)), ""])


_HEAD: Final = (
    "# Made by `ironclad install systemd`, which writes it anew at an upgrade. Put changes of yours into drop-ins",
    "# (`systemctl edit UNIT`), which it leaves alone.",
)
_LIMITS: Final = (
    "# A service waits 10 s before each new start, so it never comes near this limit while a database is away for a",
    "# night; only somebody who starts it in a loop does.",
    "StartLimitIntervalSec=300",
    "StartLimitBurst=60",
)
_RESTART: Final = (
    "Restart=always",
    "RestartSec=10s",
    "# 78: a setting is wrong. Starting again changes nothing, so it stays failed, where you see it.",
    "RestartPreventExitStatus=78",
)
_SLICE: Final = "\n".join(
    [
        *_HEAD, "[Unit]", "Description=Ironclad", "", "[Slice]",
        "# Everything together leaves the machine enough to log in and look.", "MemoryHigh=90%", "TasksMax=8192", "",
    ]
)  # fmt: skip
_WORK_SLICE: Final = "\n".join(
    [
        *_HEAD, "[Unit]", "Description=Ironclad: workers", "", "[Slice]",
        "# Separation takes what is left over: the database, the watcher and your shell come first (default is 100).",
        "CPUWeight=40", "IOWeight=40", "",
    ]
)  # fmt: skip
_GPU: Final = "\n".join(
    [
        *_HEAD, "[Service]",
        "# The GPU is a device; of all others only /dev/null and its like stay.",
        "PrivateDevices=no",
        "DevicePolicy=closed",
        "DeviceAllow=char-nvidia rw",
        "DeviceAllow=char-nvidia-uvm rw",
        "DeviceAllow=char-nvidia-caps rw",
        "DeviceAllow=char-drm rw",
        "# AMD's compute device.",
        "DeviceAllow=char-kfd rw",
        "# Device nodes belong to these groups on many distributions.",
        "SupplementaryGroups=video render", "",
    ]
)  # fmt: skip
