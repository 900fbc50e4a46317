"""Where an engine is put to the contract: recordings, hosts that stay warm, and what came of each separation."""

from __future__ import annotations

import contextlib
import itertools
import json
import shutil
import tempfile
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from ironclad.engines import environments
from ironclad.engines.client import Host
from ironclad.engines.plan import plan
from ironclad.engines.separation import Resources, SeparationRequest, resolved
from ironclad.errors import IroncladError
from ironclad.testing import inside, recordings
from ironclad.testing.verdict import NotJudged

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ironclad.engines.plan import HostPlan
    from ironclad.engines.separation import HostSettings, Progress
    from ironclad.testing.recordings import Recording, Samples
    from ironclad.testing.target import Target

BASE_FRAMES: Final = 262_144
"""Six seconds at 44.1 kHz: what most checks use."""
SHORT_FRAMES: Final = 441_000
LONG_FRAMES: Final = 5_292_000
"""Ten seconds and two minutes at 44.1 kHz: 3.5 and 42 MB with two channels."""

_MODULE = """from ironclad.testing.inside import Watched


def make() -> Watched:
    return Watched({entry!r}, {folder!r})
"""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a separation."""

    recording: Recording
    folder: Path
    """With the stems as STEM.f32."""
    error: IroncladError | None = None
    digests: dict[str, str] = field(default_factory=dict)
    """SHA-256 of each stem's samples."""
    notes: dict[str, Any] = field(default_factory=dict)
    """What was seen from inside, on a watched host."""
    used: Resources = field(default_factory=Resources)
    wall: float = 0.0
    """Seconds."""

    def stem(self, name: str) -> Samples:
        """A stem's samples: `(channels, frames)`."""
        return recordings.read(self.folder / f"{name}.f32", self.recording.channels)

    def said(self) -> str:
        """The error, with the end of what the host wrote to standard error."""
        if self.error is None:
            return "it ended well"
        tail = str(self.error.context.get("stderr", ""))[-1500:]
        return f"{type(self.error).__name__} ({self.error.code}): {self.error.detail}" + (f"\n{tail}" if tail else "")


class Bench:
    """One engine and everything that it is put to. A context manager; not for several threads.

    Two hosts stay warm: a watched one, and one exactly as the product has it. The first recording of each is the same,
    `first`.
    """

    def __init__(self, target: Target, folder: Path | None = None, *, long_frames: int = LONG_FRAMES) -> None:
        """`folder`: where recordings and stems go, for as long as this is used; `long_frames`: of the longest one."""
        self.target = target
        self.long_frames = long_frames
        self.folder = Path(tempfile.mkdtemp(prefix="contract-", dir=folder))
        self.figures: dict[str, str] = {}
        """What was measured, in words."""
        self._hosts: dict[str, Host] = {}
        self._firsts: dict[str, Outcome] = {}
        self._numbers = itertools.count(1)
        self._recordings: dict[str, Recording] = {}
        self._outcomes: dict[str, Outcome] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for host in self._hosts.values():
            host.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    # --- recordings ---

    def recording(self, name: str, make: Callable[[Path], Recording]) -> Recording:
        """A recording by name, made once."""
        if name not in self._recordings:
            self._recordings[name] = make(self.folder / f"{name}.f32")
        return self._recordings[name]

    def music(self, frames: int, *, channels: int = 0, rate: int = 0, seed: int = 1) -> Recording:
        """Music, for the engine as it declares itself unless something else is asked for."""
        shape = frames, channels or self.target.spec.channels, rate or self.target.rate
        name = f"music-{'-'.join(map(str, shape))}-{seed}"
        return self.recording(name, lambda path: recordings.write(path, recordings.music(*shape, seed=seed), shape[2]))

    def long(self, frames: int) -> Recording:
        """Music that is too long to be held in memory for nothing."""
        target = self.target
        return self.recording(
            f"long-{frames}", lambda path: recordings.write_long(path, frames, target.spec.channels, target.rate)
        )

    def written(self, name: str, samples: Samples) -> Recording:
        """Samples at the engine's rate."""
        return self.recording(name, lambda path: recordings.write(path, samples, self.target.rate))

    # --- hosts ---

    def base(self) -> Outcome:
        """What the watched host made of its first recording."""
        if "watched" not in self._firsts:
            with contextlib.suppress(NotJudged):  # it is in the outcome
                self.host("watched")
        return self._firsts["watched"]

    def first(self) -> Outcome:
        """What the other host made of the same recording, which was its first, too."""
        if "plain" not in self._firsts:
            with contextlib.suppress(NotJudged):  # it is in the outcome
                self.host("plain")
        return self._firsts["plain"]

    def sound(self) -> Outcome:
        """The base, where it is as it should be. Raises `NotJudged` before that."""
        base = self.base()
        if base.error is not None or {"shape", "length", "finite"} & base.notes.keys():
            raise NotJudged("the engine does not separate a plain recording yet; see the checks that fail")
        return base

    def host(self, kind: str = "watched") -> Host:
        """A warm host, started if there is none, `watched` or `plain`.

        Raises `NotJudged` if it cannot be started (the check `separates` says why).
        """
        host = self._hosts.get(kind)
        if host is not None and host.alive:
            return host
        if host is not None:
            host.close()
        made = self.plan(watched=kind == "watched")
        try:
            self._hosts[kind] = Host(made).start()
        except IroncladError as exc:
            first = Outcome(self.music(BASE_FRAMES), self.folder, error=exc)
            self._firsts.setdefault(kind, first)
            raise NotJudged(f"the engine does not start: {first.said()}") from exc
        first = self.separate(self.music(BASE_FRAMES), kind)
        self._firsts.setdefault(kind, first)
        if kind not in self._hosts or not self._hosts[kind].alive:
            raise NotJudged(f"the engine does not outlive its first recording: {first.said()}")
        return self._hosts[kind]

    def plan(self, *, watched: bool = False, device: str = "", model_folder: Path | None = None) -> HostPlan:
        """How a host is started: as jobs do it, but for what is watched."""
        target = self.target
        made = plan(
            target.spec, model=target.model, device=device or target.device, settings=_patient(target.settings),
            interpreter=target.interpreter, model_folder=model_folder or target.model_folder,
        )  # fmt: skip
        if not watched:
            return made
        module = f"contract_of_{self.folder.name.replace('-', '_')}"
        lines = _MODULE.format(entry=target.spec.entry, folder=str(self.folder))
        (self.folder / f"{module}.py").write_text(lines, encoding="utf-8")
        entry = f"{module}:make"
        command = (*made.command[:-1], entry)
        if target.interpreter is not None:
            command = tuple(environments.command(target.spec, target.interpreter, entry))
        path = (*target.settings.search_path, self.folder)
        return replace(made, command=command, settings=replace(made.settings, search_path=path))

    # --- separations ---

    def separate(
        self, recording: Recording, kind: str = "watched", *, stems: Sequence[str] = (), keep: bool = False,
        into: Path | None = None, resume: int = 0, progress: Callable[[Progress], None] | None = None,
        check: Callable[[], None] | None = None,
    ) -> Outcome:  # fmt: skip
        """Separate a recording on a warm host; errors of the catalogue are part of the outcome.

        Raises what `progress` and `check` raise, unless it is in the catalogue, and `NotJudged` as `host` does.
        """
        folder = into or self.folder / f"out-{next(self._numbers)}"
        folder.mkdir(exist_ok=True)
        host = self._hosts[kind] if kind in self._hosts and self._hosts[kind].alive else self.host(kind)
        (self.folder / inside.NOTES).unlink(missing_ok=True)
        target = self.target
        request = SeparationRequest(
            input=recording.path, frames=recording.frames, channels=recording.channels, rate=recording.rate,
            output=folder, stems=tuple(stems), params=target.params, resume=resume, keep=keep,
        )  # fmt: skip
        began = time.monotonic()
        try:
            done = host.separate(resolved(target.spec, target.model, request), progress=progress, check=check)
        except IroncladError as exc:
            return Outcome(recording, folder, exc, notes=self._notes(), wall=time.monotonic() - began)
        digests = {name: stem.sha256 for name, stem in done.stems.items()}
        return Outcome(recording, folder, None, digests, self._notes(), done.used, time.monotonic() - began)

    def once(self, name: str, make: Callable[[], Outcome]) -> Outcome:
        """An outcome that several checks need."""
        if name not in self._outcomes:
            self._outcomes[name] = make()
        return self._outcomes[name]

    def forget(self, outcome: Outcome) -> None:
        """Remove its stems."""
        shutil.rmtree(outcome.folder, ignore_errors=True)

    def printed(self) -> str:
        """What the engine wrote to standard output in the watched host so far."""
        with contextlib.suppress(OSError):
            return (self.folder / inside.PRINTED).read_text(encoding="utf-8", errors="replace")
        return ""

    def _notes(self) -> dict[str, Any]:
        with contextlib.suppress(OSError, ValueError):
            notes: dict[str, Any] = json.loads((self.folder / inside.NOTES).read_text(encoding="utf-8"))
            return notes
        return {}


def _patient(settings: HostSettings) -> HostSettings:
    """A busy machine is not the engine's fault: more time to start, and to stop, which is measured."""
    return replace(
        settings, start_seconds=max(settings.start_seconds, 300.0), stall_seconds=max(settings.stall_seconds, 300.0),
        cancel_seconds=max(settings.cancel_seconds, 10.0),
    )  # fmt: skip
