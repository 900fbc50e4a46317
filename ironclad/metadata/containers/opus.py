"""Opus keeps its gains as R128_*_GAIN (RFC 7845, section 5.2.1), against -23 LUFS and in 1/256 dB."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ironclad.metadata.report import Loss

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ironclad.metadata.fields import Raw

_REFERENCE_DB = 5.0
"""ReplayGain 2 plays at -18 LUFS, R128 at -23 LUFS."""
_STEPS = 256
_MAX = 32767
_GAIN = re.compile(r"\s*([+-]?\d{1,3}(?:\.\d*)?)\s*(?:dB)?\s*", re.ASCII | re.IGNORECASE)
_SCOPES = ("TRACK", "ALBUM")
_DROPPED = ("REPLAYGAIN_TRACK_PEAK", "REPLAYGAIN_ALBUM_PEAK", "REPLAYGAIN_REFERENCE_LOUDNESS")


def from_r128(comments: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Comments with R128 gains as ReplayGain ones, unless the file has those too."""
    pairs = list(comments)
    present = {key.upper() for key, _ in pairs}
    result = []
    for key, value in pairs:
        scope = next((scope for scope in _SCOPES if key.upper() == f"R128_{scope}_GAIN"), None)
        target = f"REPLAYGAIN_{scope}_GAIN"
        if scope and target not in present and re.fullmatch(r"-?\d{1,5}", value, re.ASCII):
            result.append((target, f"{int(value) / _STEPS + _REFERENCE_DB:.2f} dB"))
        else:
            result.append((key, value))
    return result


def to_r128(raw: Raw) -> tuple[Raw, list[Loss]]:
    """Canonical keys with ReplayGain as R128 gains, and what the scheme has no place for (peaks)."""
    result = dict(raw)
    losses = [Loss(key, "Opus keeps gains only (RFC 7845)", value) for key in _DROPPED for value in result.pop(key, [])]
    for scope in _SCOPES:
        for value in result.pop(f"REPLAYGAIN_{scope}_GAIN", []):
            match = _GAIN.fullmatch(value)
            steps = round((float(match[1]) - _REFERENCE_DB) * _STEPS) if match else None
            if steps is None or abs(steps) > _MAX:
                losses.append(Loss(f"REPLAYGAIN_{scope}_GAIN", "no gain in dB that fits into 16 bits", value))
            else:
                result[f"R128_{scope}_GAIN"] = [str(steps)]
    return result, losses
