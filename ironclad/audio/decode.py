"""Decodes untrusted audio files to PCM, in a sandbox."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, Self

from ironclad import durable, sandbox
from ironclad.audio.info import AudioInfo, AudioLimits

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_PROBE_CPU_SECONDS = 60
_PROBE_WALL_SECONDS = 120.0
_SLACK = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoded:
    """What a full decode gave."""

    frames: int
    """Samples per channel."""
    channels: int
    sample_rate: int
    """Hz."""
    blake3: str
    """Digest of the interleaved float32 little-endian PCM, in hex: equal recordings have equal digests."""
    damaged_packets: int
    truncated: bool

    def to_dict(self) -> dict[str, Any]:
        """As JSON data."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """From `to_dict`; unknown keys are ignored."""
        return cls(**{field.name: data[field.name] for field in fields(cls)})


@dataclass(frozen=True, slots=True, kw_only=True)
class Examined(Decoded):
    """The same, and what was measured on the way."""

    peak: float
    """Largest absolute sample; float and lossy sources may exceed 1.0."""
    rms_dbfs: float
    silence_fraction: float
    """Share of 20 ms windows below -60 dBFS."""
    side_to_mid_db: float
    """Width of the first two channels; -200 for mono and dual mono."""
    speech_score: float
    """0 (music) to 1 (speech)."""


def probe(path: Path, limits: AudioLimits, *, check: Callable[[], None] | None = None) -> AudioInfo:
    """Read a file's headers and first frame.

    Raises the `InputError` that fits, `DecodeLimit`, `OutOfMemory`, and what `check` raises.
    """
    result = sandbox.run(
        "ironclad.audio.decode_child:probe",
        {"path": str(path.absolute()), "limits": limits.to_dict()},
        sandbox.SandboxLimits(
            cpu_seconds=min(_PROBE_CPU_SECONDS, limits.decode_seconds),
            wall_seconds=min(_PROBE_WALL_SECONDS, limits.decode_wall_seconds),
            memory_bytes=limits.decode_memory_bytes,
            file_bytes=_SLACK,
        ),
        check=check,
    )
    return AudioInfo.from_dict(result)


def decode(
    path: Path,
    out: Path | None,
    limits: AudioLimits,
    *,
    progress: Callable[[float], None] | None = None,
    check: Callable[[], None] | None = None,
) -> Decoded:
    """Decode a whole file at its own sample rate; interleaved float32 little-endian PCM goes to `out`.

    With `out` None nothing is written: that is a full check of the file. Encoder delay and padding are removed as far
    as the file tells them, so frame 0 is the first sample of the recording. `progress` gets 0 to 1. A failed decode
    leaves no `out`.

    Raises the `InputError` that fits (`TruncatedAudio` unless `limits.allow_truncated`), `DecodeLimit`, `OutOfMemory`,
    `DiskFull`, and what `check` raises.
    """
    target = None if out is None else str(out.absolute())
    try:
        return Decoded.from_dict(_run("main", path, limits, progress, check, out=target))
    except BaseException:
        if out is not None:
            durable.remove(out, reason="the decode that wrote it failed")
        raise


def examine(
    path: Path,
    limits: AudioLimits,
    *,
    progress: Callable[[float], None] | None = None,
    check: Callable[[], None] | None = None,
) -> Examined:
    """Decode a whole file and measure it, which takes twice the time; nothing is written. Raises as `decode`."""
    return Examined.from_dict(_run("examine", path, limits, progress, check))


def _run(
    target: str, path: Path, limits: AudioLimits, progress: Callable[[float], None] | None,
    check: Callable[[], None] | None, **request: Any,
) -> dict[str, Any]:  # fmt: skip
    return sandbox.run(
        f"ironclad.audio.decode_child:{target}",
        {"path": str(path.absolute()), "limits": limits.to_dict(), **request},
        sandbox.SandboxLimits(
            cpu_seconds=limits.decode_seconds,
            wall_seconds=limits.decode_wall_seconds,
            memory_bytes=limits.decode_memory_bytes,
            file_bytes=limits.max_decoded_bytes + _SLACK,
        ),
        progress=progress,
        check=check,
    )
