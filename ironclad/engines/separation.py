"""What is asked of an engine host and what it delivers."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ironclad.errors import BadRequest, OutputInvalid, SourceMissing

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from ironclad.engines.contract import EngineSpec
    from ironclad.engines.host.protocol import Done

SAMPLE_BYTES = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class HostSettings:
    """How hosts are run. Times in seconds, memory in bytes."""

    threads: int = 1
    """Threads that the engine's libraries may use: cores divided by hosts, never their default."""
    memory_bytes: int = 0
    """Limit of private memory; 0: none."""
    start_seconds: float = 60.0
    load_seconds: float = 600.0
    stall_seconds: float = 120.0
    """A separation without progress for this long is stopped."""
    cancel_seconds: float = 2.0
    """How long an engine may take to stop by itself before it is killed."""
    search_path: tuple[Path, ...] = ()
    """Folders that the engine's module is looked for in, before the environment's own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeparationRequest:
    """One recording to separate.

    `input` is raw float32 little-endian, channels interleaved, `frames` samples per channel at `rate` Hz; the stems
    arrive as `output`/STEM.f32 in the same form. `output` must exist.
    """

    input: Path
    frames: int
    channels: int
    rate: int
    output: Path
    stems: tuple[str, ...] = ()
    """Stems wanted; empty: all that the model makes."""
    params: Mapping[str, Any] = field(default_factory=dict)
    """Parameters that differ from the engine's defaults; checked against its declaration."""
    resume: int = 0
    """So many frames of every stem are in `output`/STEM.f32.part already; engines that cannot go on begin anew."""
    keep: bool = False
    """Leave the unfinished files when the separation does not end well."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a separation is: `done` of `total` units of work, `written` frames of every stem final."""

    done: int
    total: int
    written: int

    @property
    def fraction(self) -> float:
        """0.0 to 1.0."""
        return min(1.0, self.done / self.total) if self.total else 0.0


@dataclass(frozen=True, slots=True)
class StemFile:
    """A finished stem: raw float32 like the input, absolute peak (1.0 is full scale), SHA-256 of the file."""

    path: Path
    frames: int
    channels: int
    rate: int
    peak: float
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """What a host used for one recording: bytes; 0 where it is not known."""

    pid: int = 0
    separations: int = 0
    """How many recordings the host has finished: above 1, it was warm."""
    rss: int = 0
    peak_rss: int = 0
    device_bytes: int = 0
    device_peak_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Separation:
    """What a separation made, in how many seconds, with which parameters (all of them, defaults included)."""

    stems: dict[str, StemFile]
    seconds: float
    params: dict[str, Any]
    resumed: int = 0
    """Frames that were there already."""
    used: Resources = field(default_factory=Resources)
    backend: str = ""
    """What ran the networks; empty where the engine has no choice."""


def resolved(spec: EngineSpec, model: str, request: SeparationRequest) -> SeparationRequest:
    """The request with every parameter and stem named. Raises `BadRequest` for those that the engine does not have."""
    return replace(request, params=spec.resolve(request.params), stems=spec.check_stems(request.stems, model))


def check_input(request: SeparationRequest) -> None:
    """Raises `BadRequest` or `SourceMissing` for a request that no engine could fulfil."""
    if request.frames < 1 or request.channels < 1 or request.rate < 1:
        raise BadRequest(f"{request.frames} frames, {request.channels} channels at {request.rate} Hz is no recording")
    if not request.output.is_dir():
        raise BadRequest(f"{request.output} is not a folder")
    if not request.input.is_file():
        raise SourceMissing(f"{request.input}")
    expected = request.frames * request.channels * SAMPLE_BYTES
    if (size := request.input.stat().st_size) != expected:
        raise BadRequest(f"{request.input} has {size} bytes; {request.frames} frames would be {expected}")


def checked_stems(request: SeparationRequest, done: Done) -> dict[str, StemFile]:
    """The stems, each one there and as long as the mixture. Raises `OutputInvalid`."""
    files: dict[str, StemFile] = {}
    for stem in request.stems:
        report = done.stems.get(stem)
        if report is None or report.file != f"{stem}.f32":
            raise OutputInvalid(f"the engine did not deliver {stem}")
        path = request.output / report.file
        size = path.stat().st_size if path.is_file() else -1
        if report.frames != request.frames or size != request.frames * request.channels * SAMPLE_BYTES:
            raise OutputInvalid(f"{stem} has {size} bytes and claims {report.frames} of {request.frames} frames")
        files[stem] = StemFile(path, report.frames, request.channels, request.rate, report.peak, report.sha256)
    return files
