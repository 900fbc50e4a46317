"""Sandbox target: the fingerprint of one untrusted file.

`fpcalc` has no way to name the formats that it may open (a playlist called song.mp3 would send it elsewhere), so it
never sees the file: it is started first, and gets plain PCM from the decoder that all files go through.
"""

from __future__ import annotations

import json
import resource
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ironclad.audio.info import AudioLimits
from ironclad.audio.source import open_source

if TYPE_CHECKING:
    from collections.abc import Callable

_HEADER_BYTES = 44
_SAMPLE_BYTES = 2
_DETAIL = 300
_PRINTED = {0, 3}
"""Exit codes with a fingerprint; 3 is for an input whose end FFmpeg takes for an error, as that of a pipe."""


def main(request: dict[str, Any], _report: Callable[[float], None]) -> dict[str, Any]:
    """`{"path", "limits", "program", "seconds"}` -> `{"text", "problem"}`; raises as `open_source` does."""
    command = [request["program"], "-json", "-length", str(request["seconds"]), "-format", "wav", "-"]
    try:
        listener = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    except OSError as exc:
        return {"text": "", "problem": f"{command[0]} does not start: {exc.strerror}"}
    with listener:
        try:
            # Nobody of this family may start anything from here on.
            resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
            resource.prlimit(listener.pid, resource.RLIMIT_NPROC, (0, 0))
            wave = _wave(Path(request["path"]), AudioLimits.from_dict(request["limits"]), request["seconds"])
            reply, complaint = listener.communicate(wave)
        except BaseException:
            listener.kill()
            raise
    return _judged(listener.returncode, reply, complaint.decode("utf-8", "replace")[-_DETAIL:].strip())


def _judged(status: int, reply: bytes, complaint: str) -> dict[str, Any]:
    try:
        text = json.loads(reply)["fingerprint"] if status in _PRINTED else ""
    except (ValueError, KeyError, TypeError):
        text, complaint = "", "it did not answer with a fingerprint"
    if not isinstance(text, str) or not text:
        return {"text": "", "problem": f"fpcalc ended with status {status}: {complaint}"}
    return {"text": text, "problem": ""}


def _wave(path: Path, limits: AudioLimits, seconds: int) -> bytes:
    """The beginning of the recording as a mono 16-bit WAVE file: Chromaprint mixes channels down itself."""
    with open_source(path, limits) as source:
        rate = source.info.sample_rate
        left = rate * seconds
        parts: list[bytes] = []
        for block in source.samples():
            mono = np.nan_to_num(block[:left].mean(axis=1), nan=0.0, posinf=0.0, neginf=0.0)
            parts.append((np.clip(mono, -1.0, 1.0) * 32767.0).astype("<i2").tobytes())
            left -= len(mono)
            if not left:
                break
    pcm = b"".join(parts)
    header = b"".join((
        b"RIFF", (len(pcm) + _HEADER_BYTES - 8).to_bytes(4, "little"), b"WAVEfmt ", (16).to_bytes(4, "little"),
        (1).to_bytes(2, "little"), (1).to_bytes(2, "little"), rate.to_bytes(4, "little"),
        (rate * _SAMPLE_BYTES).to_bytes(4, "little"), _SAMPLE_BYTES.to_bytes(2, "little"),
        (8 * _SAMPLE_BYTES).to_bytes(2, "little"), b"data", len(pcm).to_bytes(4, "little"),
    ))  # fmt: skip
    return header + pcm
