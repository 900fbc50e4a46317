"""What an audio file says about itself, and how much of one is accepted."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, Final, Self

FAMILIES: Final = ("flac", "wav", "aiff", "alac", "mp3", "aac", "vorbis", "opus", "wma", "other")
"""Kinds of source as far as tolerances and the choice of an output format are concerned."""


@dataclass(frozen=True, slots=True)
class AudioInfo:
    """A file's audio stream, as declared by its headers and confirmed by its first decoded frame."""

    family: str
    """One of `FAMILIES`."""
    container: str
    """FFmpeg's short name of the container: flac, wav, mov, ogg …"""
    codec: str
    """FFmpeg's short name of the codec: flac, pcm_s24le, mp3, aac …"""
    lossless: bool
    sample_rate: int
    """Hz."""
    channels: int
    declared_frames: int | None
    """Samples per channel that a full decode must give, encoder delay and padding taken off; None if nobody says."""
    duration: float | None
    """Seconds, exact or as the container estimates them."""
    bits_per_sample: int | None
    """Of the coded samples; None for codecs that have no such thing."""
    bit_rate: int | None
    """Bits per second."""

    def to_dict(self) -> dict[str, Any]:
        """As JSON data."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """From `to_dict`; unknown keys (a newer version wrote them) are ignored."""
        return cls(**{field.name: data[field.name] for field in fields(cls)})


@dataclass(frozen=True, slots=True)
class AudioLimits:
    """What is accepted of a source, and what its decoding may cost."""

    max_bytes: int = 2 << 30
    """Size of the file."""
    max_seconds: float = 4 * 3600.0
    """Length of the audio."""
    max_decoded_bytes: int = 16 << 30
    """Size of the audio as float32 PCM."""
    max_channels: int = 8
    min_sample_rate: int = 8000
    """Hz."""
    max_sample_rate: int = 192_000
    """Hz."""
    allow_truncated: bool = False
    """Accept what is there of a file that ends early."""
    decode_seconds: int = 1800
    """Processor time of one decode."""
    decode_wall_seconds: float = 3600.0
    """Time on the clock of one decode."""
    decode_memory_bytes: int = 1 << 30
    """Address space of the decoder's process, of which the libraries take about 0.3 GiB."""

    def to_dict(self) -> dict[str, Any]:
        """As JSON data."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """From `to_dict`."""
        return cls(**{field.name: data[field.name] for field in fields(cls)})
