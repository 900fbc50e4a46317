"""Build, check and remove an engine's private environment: `ironclad engines install`."""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from packaging.specifiers import InvalidSpecifier, SpecifierSet

from ironclad import durable
from ironclad.engines import environments, steps
from ironclad.engines.child import clean_environment
from ironclad.engines.contract import PrivateEnvironment
from ironclad.engines.environments import Environment
from ironclad.errors import AlreadyRunning, BadRequest, EngineInstallFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from ironclad.engines.contract import EngineSpec
    from ironclad.layout import Layout

_LOCK: Final = "requirements.lock"
_WHOLE: Final = "installed"
"""Marks an environment that was installed to the end and answered."""
_MINORS: Final = range(20, 7, -1)
_PROBE_SECONDS: Final = 180.0
_INSTALL_SECONDS: Final = 3 * 3600.0
_KEPT: Final = re.compile(r"(PIP|UV)_[A-Z_]+|[a-z]+_proxy|[A-Z]+_PROXY|SSL_CERT_(FILE|DIR)|REQUESTS_CA_BUNDLE")


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where packages come from."""

    find_links: tuple[Path, ...] = ()
    """Folders of wheels."""
    extra_indexes: tuple[str, ...] = ()
    offline: bool = False
    """No index at all: everything comes from `find_links`."""

    def options(self) -> list[str]:
        """For pip and for uv, which agree on these. Raises `BadRequest` for what cannot work."""
        if self.offline and not self.find_links:
            raise BadRequest("--offline needs --find-links DIR: the wheels must come from somewhere.")
        if missing := [folder for folder in self.find_links if not folder.is_dir()]:
            raise BadRequest(f"{missing[0]} is not a folder.")
        words = ["--no-index"] if self.offline else []
        for folder in self.find_links:
            words += ["--find-links", str(folder.absolute())]
        for index in self.extra_indexes if not self.offline else ():
            words += ["--extra-index-url", index]
        return words


def install(
    layout: Layout, spec: EngineSpec, source: Source | None = None, *, say: Callable[[str], None] = lambda _line: None,
    again: bool = False, uv: str | None = None, variant: str | None = None,
) -> Environment:  # fmt: skip
    """Build the environment and put it in force; the one in force meanwhile stays what it was.

    One that is there already and answers is kept, unless `again`. An installation that was interrupted goes on where
    it stopped. `say` gets the installer's lines; `uv` is the program to use instead of venv and pip; `variant` is one
    of those that the engine offers (None: the one that is installed, else its first).

    Raises `BadRequest` (the engine needs none, impossible options), `NotFound` for a variant that it does not offer,
    `EngineInstallFailed`, `AlreadyRunning`.
    """
    lock = _lock_of(spec, variant, environments.current(layout, spec.name))
    source = source or Source()
    options = source.options()
    base = environments.home(layout, spec.name)
    durable.make_dirs(base)
    with _alone(base, spec.name):
        before = environments.current(layout, spec.name)
        if before is not None and before.digest == lock.digest and not again:
            with contextlib.suppress(EngineInstallFailed):
                probe(spec, before.interpreter)
                say(f"{spec.name} is installed already.")
                return before
        folder = _folder(base, lock, None if before is None else before.folder)
        if again and (folder / _WHOLE).is_file():
            durable.remove_tree(folder, reason="an older environment, to be built again")
        report = _built(spec, folder, partial(_build, folder, lock, options, say, uv), say)
        durable.write_atomic(folder / _WHOLE, b"")
        made = Environment(
            spec.name, folder, lock.digest, report["python"], report["packages"], tuple(report["devices"]),
            datetime.now(UTC).isoformat(timespec="seconds"), lock.name,
        )  # fmt: skip
        environments.enforce(layout, made)
        _remove_others(base, {folder, *(() if before is None else (before.folder,))})
    return made


def _built(spec: EngineSpec, folder: Path, build: Callable[[], None], say: Callable[[str], None]) -> dict[str, Any]:
    """Build and probe. What is left of an earlier installation is gone on with, unless that leads to nothing."""
    left = (folder / _LOCK).is_file()
    build()
    try:
        return probe(spec, folder / "bin" / "python")
    except EngineInstallFailed:
        if not left:
            raise
    say("What an earlier installation left does not work; beginning anew")
    durable.remove_tree(folder, reason="an older environment that does not work")
    build()
    return probe(spec, folder / "bin" / "python")


def check(layout: Layout, spec: EngineSpec) -> dict[str, Any]:
    """What the engine's environment has, by importing the engine in it.

    Raises `EngineNotBuilt` if there is none that fits, `EngineInstallFailed` if the engine cannot be imported.
    """
    found = environments.required(layout, spec)
    return probe(spec, Path(sys.executable) if found is None else found.interpreter)


def remove(layout: Layout, engine: str) -> bool:
    """Remove an engine's environments; whether there was one. Raises `AlreadyRunning` while one is being built."""
    base = environments.home(layout, engine)
    if not base.is_dir():
        return False
    with _alone(base, engine):
        durable.remove(base / environments.POINTER, reason=f"engine {engine} removed")
        durable.remove_tree(base, reason=f"engine {engine} removed")  # with the lock in it, see `_alone`
    return True


def probe(spec: EngineSpec, interpreter: Path) -> dict[str, Any]:
    """`{"python", "devices", "packages"}` as the host program itself reports it. Raises `EngineInstallFailed`."""
    command = [*environments.command(spec, interpreter), "--probe"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_PROBE_SECONDS, check=False, cwd="/",
            env=clean_environment(os.environ, 1),
        )  # fmt: skip
        report = json.loads(done.stdout) if done.returncode == 0 else None
    except (OSError, subprocess.TimeoutExpired, ValueError) as exc:
        raise EngineInstallFailed(f"{spec.name} does not start: {exc}", engine=spec.name) from exc
    if not isinstance(report, dict):
        raise EngineInstallFailed(f"{spec.name} cannot be imported: {_last(done.stderr)}", engine=spec.name)
    return report


def interpreter_for(python: str, candidates: Sequence[str] | None = None) -> str:
    """A Python of this machine in the range: Ironclad's own if it fits, else the newest on PATH.

    Raises `EngineInstallFailed` naming the range, `BadRequest` for a range that is none.
    """
    try:
        wanted = SpecifierSet(python)
    except InvalidSpecifier as exc:
        raise BadRequest(f"{python!r} is not a range of Python versions") from exc
    own = ".".join(map(str, sys.version_info[:3]))
    if candidates is None and wanted.contains(own):
        return sys.executable
    for name in candidates or [f"python3.{minor}" for minor in _MINORS]:
        path = shutil.which(name)
        if path is not None and wanted.contains(_version(path)):
            return path
    raise EngineInstallFailed(f"No Python {python} on this machine; install one (python3.X on PATH) and try again.")


def _version(path: str) -> str:
    program = "import platform; print(platform.python_version())"
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        done = subprocess.run([path, "-I", "-c", program], capture_output=True, text=True, timeout=20, check=False)
        return done.stdout.strip() or "0"
    return "0"


def _lock_of(spec: EngineSpec, variant: str | None, installed: Environment | None) -> PrivateEnvironment:
    if not isinstance(spec.environment, PrivateEnvironment):
        raise BadRequest(f"Engine {spec.name} runs with Ironclad's own packages; there is nothing to install.")
    if variant is not None:
        return spec.environment.variant(variant)
    names = {one.name for one in spec.environment.choices}
    if installed is not None and installed.variant in names:  # an update of a small machine brings no large framework
        return spec.environment.variant(installed.variant)
    return spec.environment


@contextlib.contextmanager
def _alone(base: Path, engine: str) -> Iterator[None]:
    """Hold the engine's installation lock. A removal takes the lock's file along: then it locks nothing any more."""
    path = base / ".lock"
    busy = f"The environment of {engine} is being installed or removed by somebody else."
    with contextlib.ExitStack() as held:
        try:
            file = held.enter_context(path.open("wb"))
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            ours = os.path.samestat(os.fstat(file.fileno()), path.stat())
        except (BlockingIOError, FileNotFoundError) as exc:
            raise AlreadyRunning(busy) from exc
        if not ours:
            raise AlreadyRunning(busy)
        yield


def _folder(base: Path, lock: PrivateEnvironment, in_force: Path | None) -> Path:
    """Where to build: an unfinished folder of the same lock is gone on with, the one in force is left alone."""
    number = 1
    while (folder := base / f"{lock.digest[:16]}.{number}") == in_force:
        number += 1
    return folder


def _build(
    folder: Path, lock: PrivateEnvironment, options: list[str], say: Callable[[str], None], uv: str | None
) -> None:
    python = folder / "bin" / "python"
    lent = importlib.util.find_spec("pip") is not None  # ours can install there, which saves unpacking another one
    # The lock is written when the venv is whole: without it, or the Python that it was made of, there is only rubble.
    if not ((folder / _LOCK).is_file() and python.is_file()):
        durable.remove_tree(folder, reason="unfinished")
        base_python = interpreter_for(lock.python)
        say(f"Making a virtual environment with {base_python}")
        make = (
            [uv, "venv", "--python", base_python]
            if uv
            else [base_python, "-I", "-m", "venv", *(["--without-pip"] if lent else [])]
        )
        _run([*make, str(folder)], say)
        durable.write_atomic(folder / _LOCK, "\n".join([*lock.requirements, ""]).encode())
    own = [sys.executable, "-I", "-m", "pip", "--python", str(python)] if lent else [str(python), "-I", "-m", "pip"]
    pip = [uv, "pip", "install", "--python", str(python)] if uv else [*own, "install"]
    quiet = [] if uv else ["--no-input", "--disable-pip-version-check", "--progress-bar", "off"]
    _run([*pip, *quiet, *options, "-r", str(folder / _LOCK)], say)
    _run([uv, "pip", "check", "--python", str(python)] if uv else [*own, "check"], say)


def _run(command: Sequence[str], say: Callable[[str], None]) -> None:
    """Run an installer's step, hand on its lines. Raises `EngineInstallFailed` with the last of them."""
    try:
        ended = steps.run(command, _environment(os.environ), say, seconds=_INSTALL_SECONDS)
    except OSError as exc:
        raise EngineInstallFailed(f"{command[0]}: {exc.strerror}") from exc
    if ended.status != 0:
        raise EngineInstallFailed(" | ".join(ended.lines)[-1500:] or f"exit {ended.status}")


def _environment(environ: Mapping[str, str]) -> dict[str, str]:
    """As for hosts, but with what says where packages come from; never the settings of an active environment."""
    kept = {name: value for name, value in environ.items() if _KEPT.fullmatch(name)}
    return {**clean_environment(environ, os.cpu_count() or 1), **kept, "PIP_REQUIRE_VIRTUALENV": "0"}


def _remove_others(base: Path, keep: set[Path]) -> None:
    for folder in base.iterdir():
        if folder.is_dir() and folder not in keep:
            durable.remove_tree(folder, reason="an older environment")


def _last(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:500] if lines else "it said nothing"
