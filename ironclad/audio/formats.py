"""The formats that Ironclad writes, what each can hold, and how a source chooses one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

from ironclad.errors import BadRequest, SampleRateUnsupported, TooManyChannels

if TYPE_CHECKING:
    from ironclad.audio.info import AudioInfo

QUALITIES: Final = ("high", "standard", "small")
"""Levels of the lossy formats; lossless ones ignore them."""
_MPEG_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
_AAC_RATES = (*_MPEG_RATES, 64000, 88200, 96000)
_SIXTEEN, _TWENTY_FOUR = 16, 24
_LOWEST_RATE, _HIGHEST_RATE = 8000, 192_000


@dataclass(frozen=True, slots=True)
class Format:
    """One output format."""

    suffix: str
    lossless: bool
    channels: frozenset[int]
    """Numbers of channels that it can hold."""
    rates: tuple[int, ...] = ()
    """Sample rates that it can hold, ascending; empty for any from 8 to 192 kHz."""


_ANY = frozenset(range(1, 9))
_FRONT = frozenset({1, 2})
_SURROUND = frozenset({1, 2, 6})
FORMATS: Final[dict[str, Format]] = {
    "flac": Format(".flac", lossless=True, channels=_ANY),
    "wav": Format(".wav", lossless=True, channels=_ANY),
    "alac": Format(".m4a", lossless=True, channels=_SURROUND),
    "mp3": Format(".mp3", lossless=False, channels=_FRONT, rates=_MPEG_RATES),
    "m4a": Format(".m4a", lossless=False, channels=_SURROUND, rates=_AAC_RATES),
    "ogg": Format(".ogg", lossless=False, channels=_SURROUND),
    "opus": Format(".opus", lossless=False, channels=_SURROUND, rates=(48000,)),
}
_FORMAT_OF_FAMILY: Final = {"mp3": "mp3", "aac": "m4a", "vorbis": "ogg", "opus": "opus"}


@dataclass(frozen=True, slots=True)
class EncodeSpec:
    """How a result is to be written. Raises `BadRequest` for what no format can be asked for."""

    format: str
    """One of `FORMATS`."""
    quality: str = "high"
    """One of `QUALITIES`; for lossy formats."""
    bits: int = 16
    """16 (dithered) or 24; for lossless formats."""
    gain: float = 1.0
    """Linear factor on every sample, the caller's means against clipping."""

    def __post_init__(self) -> None:
        if self.format not in FORMATS:
            raise BadRequest(f"no output format {self.format!r}; there are {', '.join(FORMATS)}")
        if self.quality not in QUALITIES:
            raise BadRequest(f"no quality {self.quality!r}; there are {', '.join(QUALITIES)}")
        if self.bits not in {_SIXTEEN, _TWENTY_FOUR}:
            raise BadRequest(f"{self.bits} bits per sample; there are 16 and 24")
        if not 0 < self.gain < float("inf"):
            raise BadRequest(f"a gain of {self.gain} makes no sense")

    @classmethod
    def for_source(cls, info: AudioInfo, fmt: str = "auto", *, quality: str = "high") -> Self:
        """The spec that keeps what the source has.

        "auto" writes FLAC for lossless sources and the source's own family for lossy ones, MP3 (AAC for more than two
        channels) where that cannot be written. Lossless results keep up to 16 bits as 16 and anything above as 24.
        """
        bits = _TWENTY_FOUR if (info.bits_per_sample or _SIXTEEN) > _SIXTEEN else _SIXTEEN
        if fmt == "auto":
            fmt = "flac" if info.lossless else _FORMAT_OF_FAMILY.get(info.family, "mp3")
            if info.channels not in FORMATS[fmt].channels:
                fmt = "m4a" if info.channels in FORMATS["m4a"].channels and not info.lossless else "flac"
        return cls(fmt, quality, bits)

    @property
    def suffix(self) -> str:
        """The file name's ending, with its dot."""
        return FORMATS[self.format].suffix

    def stored_rate(self, sample_rate: int) -> int:
        """The sample rate (Hz) that a signal of `sample_rate` is stored at.

        The same if the format can hold it, else the largest one that divides it, else 48 kHz.
        Raises `SampleRateUnsupported` outside 8 to 192 kHz.
        """
        rates = FORMATS[self.format].rates
        if not _LOWEST_RATE <= sample_rate <= _HIGHEST_RATE:
            raise SampleRateUnsupported(f"{sample_rate} Hz in {self.format}", sample_rate=sample_rate)
        if not rates or sample_rate in rates:
            return sample_rate
        return max((rate for rate in rates if sample_rate % rate == 0), default=48000)

    def accept(self, channels: int) -> None:
        """Raise `TooManyChannels` if the format cannot hold so many channels."""
        allowed = FORMATS[self.format].channels
        if channels not in allowed:
            held = ", ".join(str(count) for count in sorted(allowed))
            raise TooManyChannels(f"{channels}, and {self.format} is written with {held}", channels=channels)
