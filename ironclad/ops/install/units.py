"""The systemd units of a host, as text."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from ironclad.ops import directory, inherited
from ironclad.ops.install import hardening, services
from ironclad.ops.install.services import CONFIG, ROLES, SECRETS, Host, Service

if TYPE_CHECKING:
    from collections.abc import Mapping

UNITS: Final = Path("etc/systemd/system")
_WATCHDOG: Final = "60s"


def render(host: Host) -> dict[Path, str]:
    """Every file, by its path below the root of the file system.

    Args:
        host: this one.
    """
    chosen = services.of(host)
    files = {UNITS / f"{service.name}.service": _service(service, host) for service in chosen}
    files |= {UNITS / f"{service.name}.timer": _timer(service) for service in chosen if service.calendar}
    files |= {UNITS / service.socket: _socket(service, host) for service in chosen if service.listen}
    files[UNITS / "ironclad.target"] = _target(host)
    files[UNITS / "ironclad.slice"] = _SLICE
    files[UNITS / "ironclad-work.slice"] = _WORK_SLICE
    if "worker" in host.roles and "gpu" in host.pools:
        files[UNITS / "ironclad-worker@gpu.service.d" / "10-gpu.conf"] = _GPU
    files[Path("etc/sysusers.d/ironclad.conf")] = _sysusers(host)
    files[Path("etc/tmpfiles.d/ironclad.conf")] = _tmpfiles(host)
    return files


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


def _socket(service: Service, host: Host) -> str:
    """What listens for a service that has no network, and ends with it: a stopped service is not woken by a scrape."""
    filtered = (
        "# The service's own filter does not count for a socket that is handed to it.",
        "IPAddressDeny=any", f"IPAddressAllow={' '.join(host.networks)}",
    ) if "any" not in host.networks else ()  # fmt: skip
    return "\n".join(
        [
            *_HEAD, "[Unit]", f"Description={service.description}: health and metrics",
            "# Both: else a scrape would start what you stopped, or what ended for a wrong setting.",
            f"PartOf={service.name}.service", f"BindsTo={service.name}.service", "",
            "[Socket]", f"ListenStream={service.listen}", f"FileDescriptorName={inherited.HEALTH}",
            "Slice=ironclad.slice", *filtered, "",
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
    if service.listen:
        lines += [
            "# It has no network (below): systemd listens for it, before it is started, and hands the socket over.",
            f"Sockets={service.socket}",
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
    networks = host.networks if service.networks is None else service.networks
    hardened = [
        *hardening.lines(decodes=service.decodes, compiles=service.compiles),
        hardening.home(needed=host.needs_home),
        *(hardening.offline() if service.offline else hardening.network(networks)),
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
    return names + [f"{service.name}.timer" for service in services.of(host) if service.calendar]


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
    return "\n".join([*_PLAIN_HEAD, f'u {host.user} - "Ironclad" {host.data_dir}', ""])


def _tmpfiles(host: Host) -> str:
    user = host.user
    rows: Mapping[str, str] = {
        f"d {host.data_dir} 0750 {user} {user} -": "Songs and the library: readable by the group, for media servers.",
        f"d {host.data_dir}/input 2770 {user} {user} -": "Members of the group drop files here; files get the group.",
        f"d {CONFIG.parent} 0755 root root -": "The settings file is no secret.",
        f"d {SECRETS} 0750 root {user} -": "Secrets: given to services as credentials; the group for the command line.",
    }
    return "\n".join([*_PLAIN_HEAD, *(line for row, why in rows.items() for line in (f"# {why}", row)), ""])


_HEAD: Final = (
    "# Made by `ironclad install systemd`, which writes it anew at an upgrade. Put changes of yours into drop-ins",
    "# (`systemctl edit UNIT`), which it leaves alone.",
)
_PLAIN_HEAD: Final = (
    "# Made by `ironclad install systemd`, which writes it anew at an upgrade. What you add belongs into another file",
    "# of this folder.",
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
