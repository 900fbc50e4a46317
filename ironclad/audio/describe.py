"""Puts together what is known of an opened file. Runs in the sandbox child only."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from ironclad.audio.info import AudioInfo

if TYPE_CHECKING:
    from av.audio.frame import AudioFrame
    from av.audio.stream import AudioStream
    from av.container import InputContainer

    from ironclad.audio.declared import Promise

_FAMILY_OF_CODEC: Final = {
    "flac": "flac",
    "alac": "alac",
    "mp3": "mp3",
    "mp3float": "mp3",
    "aac": "aac",
    "vorbis": "vorbis",
    "opus": "opus",
    "libopus": "opus",
}
_LOSSLESS: Final = {"flac", "alac", "tta", "wavpack", "wmalossless"}
_PCM = re.compile(r"pcm_[fsu](\d+)")
_LONGEST_PAGE = 1 << 17
"""Samples; a first page that ends later belongs to a stream that was tuned in to."""
_DELAY_AND_PADDING = 2 * 4096
"""Samples; no AAC encoder has more."""
_EXACT_DURATION: Final = {"aiff", "au", "caf", "mov", "ogg", "w64", "wv"}
"""Demuxers whose stream duration is a count of samples out of the headers."""


def describe(
    container: InputContainer, stream: AudioStream, first: AudioFrame, demuxer: str, promise: Promise
) -> AudioInfo:
    """The `AudioInfo` of an opened stream: rate and channels are the first decoded frame's, not the header's."""
    codec = stream.codec_context.name
    rate = first.sample_rate
    declared = _declared(container, stream, demuxer, promise, rate)
    seconds = None if declared is None else declared / rate
    if seconds is None and stream.duration is not None and stream.time_base:
        seconds = float(stream.duration * stream.time_base)
    if seconds is None and container.duration is not None:
        seconds = container.duration / 1_000_000
    return AudioInfo(
        family=_family(codec, demuxer),
        container=demuxer,
        codec=codec.removesuffix("float"),
        lossless=codec in _LOSSLESS or _PCM.match(codec) is not None,
        sample_rate=rate,
        channels=first.layout.nb_channels,
        declared_frames=declared,
        duration=seconds,
        bits_per_sample=_bits(stream, first, promise),
        bit_rate=stream.codec_context.bit_rate or container.bit_rate or None,
    )


def _declared(container: InputContainer, stream: AudioStream, demuxer: str, promise: Promise, rate: int) -> int | None:
    frames = _by_container(stream, demuxer, promise, rate)
    told = _itunes_samples(container.metadata.get("iTunSMPB", ""))
    if demuxer != "mov" or told is None:
        return frames
    # Taggers copy the comment to files that it is not about.
    return told if frames is None or abs(told - frames) <= _DELAY_AND_PADDING else frames


def _by_container(stream: AudioStream, demuxer: str, promise: Promise, rate: int) -> int | None:
    if promise.frames is not None and (demuxer != "mov" or _in_samples(stream, rate)):
        return promise.frames
    if demuxer not in _EXACT_DURATION or not promise.exact or not stream.duration or not stream.time_base:
        return None
    if demuxer == "ogg" and promise.cut:
        return None  # FFmpeg counts to the last page that is there
    frames = round(stream.duration * stream.time_base * rate)
    if (origin := lost_start(stream, promise, rate)) is not None:
        frames += round((stream.start_time or 0) * stream.time_base * rate) - origin
    if demuxer == "ogg" and stream.codec_context.name in {"opus", "libopus"}:
        frames -= int.from_bytes((stream.codec_context.extradata or b"")[10:12], "little")  # RFC 7845, 5.1: pre-skip
    return max(0, frames)


def _in_samples(stream: AudioStream, rate: int) -> bool:
    return stream.time_base is not None and stream.time_base * rate == 1


def lost_start(stream: AudioStream, promise: Promise, rate: int) -> int | None:
    """Where an Ogg recording began whose first page FFmpeg could not use, in samples; None if it is there."""
    first = promise.first_granule
    if first is None or not stream.start_time or not stream.time_base:
        return None
    if stream.start_time * stream.time_base * rate < first:
        return None
    return 0 if first <= _LONGEST_PAGE else first


def _bits(stream: AudioStream, first: AudioFrame, promise: Promise) -> int | None:
    codec = stream.codec_context.name
    if (pcm := _PCM.match(codec)) is not None:
        return int(pcm[1])
    if promise.bits is not None and codec in _LOSSLESS:
        return promise.bits
    extradata = stream.codec_context.extradata or b""
    if codec == "alac" and len(extradata) > 17:  # noqa: PLR2004 -- bitDepth in its magic cookie
        return extradata[17]
    return 16 if codec in _LOSSLESS and first.format.name.startswith("s16") else None


def _family(codec: str, demuxer: str) -> str:
    if codec.startswith("pcm_"):
        return "aiff" if demuxer == "aiff" else "wav"
    return "wma" if codec.startswith("wma") else _FAMILY_OF_CODEC.get(codec, "other")


def _itunes_samples(smpb: str) -> int | None:
    """The original sample count of an iTunSMPB comment: ` 00000000 DELAY PADDING COUNT …`, hexadecimal."""
    fields = smpb.split()
    try:
        return int(fields[3], 16) or None
    except (IndexError, ValueError):
        return None
