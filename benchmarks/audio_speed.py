"""How much faster than real time audio is decoded, encoded, measured and resampled: `audio_speed.py [seconds]`."""

from __future__ import annotations

import os
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ironclad.audio.decode import decode, probe
from ironclad.audio.encode import FORMATS, EncodeSpec, encode
from ironclad.audio.info import AudioLimits
from ironclad.audio.loudness import measure
from ironclad.audio.pcm import PcmFile, PcmWriter
from ironclad.audio.resample import resample

if TYPE_CHECKING:
    from collections.abc import Callable

RATE = 44100


def music(path: Path, seconds: int) -> PcmFile:
    """A chord with a pulse and some noise, stereo: compresses about as music does."""
    time_axis = np.arange(RATE * 10) / RATE
    chord = sum(0.05 * np.sin(2 * np.pi * hertz * time_axis) for hertz in (110, 220, 277.2, 330, 880))
    pulse = 0.3 * np.exp(-(time_axis % 0.5) / 0.05) * np.sin(2 * np.pi * 70 * time_axis)
    random = np.random.default_rng(0)
    with PcmWriter(path, 2, RATE) as writer:
        for _ in range(0, seconds, 10):
            hiss = 0.01 * random.standard_normal((len(time_axis), 2))
            writer.write(np.stack([chord + pulse, 0.8 * chord + pulse], axis=1) + hiss)
        return writer.finish()


def times_real_time(seconds: float, work: Callable[[], object]) -> float:
    """Seconds of audio per second of processor time, children included: other load on the machine matters less."""
    before = os.times()
    work()
    after = os.times()
    return seconds / sum(after[field] - before[field] for field in range(4))


def main() -> None:
    """Print one line a format."""
    length = int(sys.argv[1]) if len(sys.argv) > 1 else 240
    limits = AudioLimits()
    with tempfile.TemporaryDirectory() as folder:
        pcm = music(Path(folder, "music.f32"), length)
        for name in FORMATS:
            out = Path(folder, f"music{EncodeSpec(name).suffix}")
            encoding = times_real_time(pcm.seconds, partial(encode, pcm, out, EncodeSpec(name)))
            decoding = times_real_time(pcm.seconds, partial(decode, out, Path(folder, "out.f32"), limits))
            probing = pcm.seconds / times_real_time(pcm.seconds, partial(probe, out, limits))
            print(f"{name:5} encode {encoding:6.0f}x   decode {decoding:6.0f}x   probe {probing:.2f} s")
        print(f"loudness  {times_real_time(pcm.seconds, partial(measure, pcm)):6.0f}x")
        print(f"to 48 kHz {times_real_time(pcm.seconds, partial(resample, pcm, Path(folder, '48.f32'), 48000)):6.0f}x")


if __name__ == "__main__":
    main()
