"""This machine: Python, packages, folders, disk, limits, clock."""

from __future__ import annotations

import contextlib
import ctypes
import platform
import resource
import secrets
import struct
import sys
import time
from datetime import UTC, datetime
from importlib import metadata
from typing import TYPE_CHECKING

import ironclad
from ironclad import durable
from ironclad.errors import DiskFull, IroncladError
from ironclad.ops import certificates, directory
from ironclad.ops.checks.outcome import fail, ok, warn
from ironclad.ops.disk import HYSTERESIS, space

if TYPE_CHECKING:
    from pathlib import Path

    from ironclad.config import Settings
    from ironclad.ops.checks.outcome import Outcome

DISTRIBUTION = "ironclad-audio"
_PYTHON = (3, 11)
_FEW_INODES = 10_000
_FEW_DESCRIPTORS = 1024
_TIMEX_BYTES = 512  # struct timex is smaller; the kernel fills in what it knows
_TIME_ERROR = 5
_STA_NANO = 0x2000
_OFF_SECONDS = 0.5
_UNSURE_SECONDS = 5.0
_FULL = 0.8
_TRIAL_SECONDS = 3600.0


def python(_settings: Settings) -> list[Outcome]:
    """The interpreter's version."""
    version = platform.python_version()
    if sys.version_info < _PYTHON:
        return [fail(f"Python {version}", "Install Ironclad with Python 3.11 or newer.")]
    return [ok(f"Python {version}, Ironclad {ironclad.__version__}")]


def packages(_settings: Settings) -> list[Outcome]:
    """Every package that Ironclad depends on, in a version that it allows."""
    from packaging.requirements import Requirement  # noqa: PLC0415 - only this check needs it

    try:
        wanted = [Requirement(text) for text in metadata.requires(DISTRIBUTION) or ()]
    except metadata.PackageNotFoundError:
        return [warn(f"{DISTRIBUTION} is not installed as a package", "Install it: pip install -e .")]
    problems = []
    needed = [requirement for requirement in wanted if requirement.marker is None or requirement.marker.evaluate()]
    for requirement in needed:
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            problems.append(f"{requirement.name} is missing")
            continue
        if not requirement.specifier.contains(version, prereleases=True):
            problems.append(f"{requirement.name} is {version}, wanted {requirement.specifier}")
    if problems:
        return [fail("; ".join(problems), f"Install again: pip install --upgrade {DISTRIBUTION}")]
    return [ok(f"{len(needed)} packages as declared")]


def settings(settings: Settings) -> list[Outcome]:
    """What is set, and the data folder's place. Raises `ConfigError` for a path template that cannot work."""
    from ironclad.library.naming import PathTemplate  # noqa: PLC0415 - only this check needs it

    if settings.output.template:
        PathTemplate(settings.output.template)
    pools = ", ".join(f"{name} ({pool.slots} slots)" for name, pool in settings.pools.items())
    return [ok(f"data folder {settings.layout.root}; engine {settings.engine.name}; pools {pools}")]


def data_folder(settings: Settings) -> list[Outcome]:
    """Writing, flushing, linking and renaming without overwriting work in the data folder."""
    root = settings.layout.root
    remedy = f"Give the Ironclad user the folder {root}, on a file system with hard links (not FAT or exFAT)."
    try:
        durable.make_dirs(settings.layout.work)
        _remove_older_trials(settings.layout.work)
        trial = settings.layout.work / f".doctor-{secrets.token_hex(4)}"
        durable.make_dirs(trial)
        try:
            _try_file_operations(trial)
        finally:
            durable.remove_tree(trial, reason="doctor's trial")
    except (IroncladError, OSError) as exc:
        return [fail(f"{root}: {exc}", remedy)]
    return [ok(f"{root} can be written, flushed, linked and renamed in")]


def _remove_older_trials(work: Path) -> None:
    """What a doctor that was killed left; one that runs beside us is young."""
    for trial in work.glob(".doctor-*"):
        with contextlib.suppress(FileNotFoundError):
            if time.time() - trial.stat().st_mtime > _TRIAL_SECONDS:
                durable.remove_tree(trial, reason="the trial of a doctor that was killed")


def _try_file_operations(folder: Path) -> None:
    first, second, third = folder / "first", folder / "second", folder / "third"
    durable.write_atomic(first, b"doctor")
    second.hardlink_to(first)
    if not first.samefile(second):
        raise OSError("a hard link is not the same file")
    try:
        durable.publish(second, first)
    except FileExistsError:
        pass
    else:
        raise OSError("a rename overwrote a file")
    durable.publish(second, third)
    if third.read_bytes() != b"doctor":
        raise OSError("a file reads back differently")


def file_systems(settings: Settings) -> list[Outcome]:
    """Claiming and publishing are one rename where the folders share a file system, else a verified copy."""
    layout = settings.layout
    folders = {
        "archive": layout.archive, "work": layout.work, "output": layout.output,
        **{f"watch root {root.path}": root.path for root in settings.watch_roots},
    }  # fmt: skip
    devices = {name: folder.stat().st_dev for name, folder in folders.items() if folder.exists()}
    if not devices:
        return [ok("no folder is made yet")]
    home = devices.get("archive", next(iter(devices.values())))
    others = [name for name, device in devices.items() if device != home]
    if others:
        detail = f"on another file system than archive/: {', '.join(others)}"
        return [warn(detail, "It works by verified copies instead of renames, which take longer.")]
    return [ok("all folders are on one file system")]


def disk(settings: Settings) -> list[Outcome]:
    """Free space against the floor."""
    found = space(settings.layout, settings.disk.min_free_bytes)
    detail = f"{found.free_bytes / 1e9:.1f} GB free on {found.path}; the floor is {found.floor_bytes / 1e9:.1f} GB"
    if found.low():
        return [fail(detail, DiskFull.hint)]
    if found.free_bytes < found.floor_bytes * HYSTERESIS * 2:
        return [warn(detail, "Free some space soon: at the floor nothing new starts.")]
    return [ok(detail)]


def inodes(settings: Settings) -> list[Outcome]:
    """Free inodes of the data folder's file system."""
    free = durable.free_inodes(settings.layout.root)
    if free is None:
        return [ok("the file system has no fixed number of inodes")]
    detail = f"{free} inodes free"
    if free < _FEW_INODES:
        return [fail(detail, "Delete many small files, or use a file system with more inodes.")]
    return [ok(detail)]


def descriptors(_settings: Settings) -> list[Outcome]:
    """How many files a process may have open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    detail = f"{soft} open files a process (at most {hard})"
    if soft < _FEW_DESCRIPTORS:
        return [warn(detail, f"Raise the limit to {_FEW_DESCRIPTORS}: ulimit -n, or LimitNOFILE= in the unit.")]
    return [ok(detail)]


def clock(_settings: Settings) -> list[Outcome]:
    """Whether the kernel takes the clock for synchronised, and how far off it is held to be.

    Leases use the database's clock, so this is advice.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    timex = ctypes.create_string_buffer(_TIMEX_BYTES)
    return [judge_clock(libc.adjtimex(timex), timex.raw)]


def judge_clock(state: int, timex: bytes) -> Outcome:
    """What adjtimex(2) says: its result, and the struct timex that it filled in."""
    if state == _TIME_ERROR:
        remedy = "Run a time service (chrony, systemd-timesyncd), else log times of several hosts do not fit together."
        return warn("the clock is not synchronised", remedy)
    if state < 0:
        return ok("the kernel does not say whether the clock is synchronised")
    # struct timex begins: modes (int), offset, freq, maxerror, esterror (longs), status (int); adjtimex(2).
    offset, _, most, _, status = struct.unpack_from("@llll i", timex, struct.calcsize("@i0l"))
    seconds = offset / (1e9 if status & _STA_NANO else 1e6)
    detail = f"the clock is synchronised, {1000 * seconds:+.1f} ms off, at most {most / 1e6:.2f} s"
    if abs(seconds) > _OFF_SECONDS or most / 1e6 > _UNSURE_SECONDS:
        return warn(detail, "Look at the time service: `chronyc tracking` or `timedatectl timesync-status`.")
    return ok(detail)


def open_files(settings: Settings) -> list[Outcome]:
    """How many files each service of this machine has open, of those that it may."""
    import psutil  # noqa: PLC0415 - only this check needs it

    found = []
    for entry in directory.announced(settings.layout.run):
        with contextlib.suppress(psutil.Error, OSError):
            process = psutil.Process(entry.pid)
            used, limit = process.num_fds(), process.rlimit(psutil.RLIMIT_NOFILE)[0]
            if entry.alive and used > _FULL * limit:
                remedy = "Raise LimitNOFILE= in its unit (or ulimit -n) and restart it; then report what it had open."
                found.append(warn(f"{used} of {limit} files are open", remedy, about=entry.name))
    return found or [ok("no service comes near its limit")]


def certificate(settings: Settings) -> list[Outcome]:
    """When the certificates of the TLS servers that the settings name run out."""
    found = []
    for target in certificates.targets(settings):
        try:
            end = certificates.expiry(target)
        except (OSError, ValueError) as exc:
            found.append(
                warn(f"cannot be looked at: {exc}", "The findings about the server may tell why.", about=target.name)
            )
            continue
        if end is None:
            found.append(ok("no TLS", about=target.name))
            continue
        detail, days = certificates.judge(end, datetime.now(UTC))
        if days < 0:
            found.append(fail(detail, certificates.REMEDY, about=target.name))
        elif days < certificates.WARN_DAYS:
            found.append(warn(detail, certificates.REMEDY, about=target.name))
        else:
            found.append(ok(detail, about=target.name))
    return found or [ok("the settings name no TLS server")]
