"""Sketches of recordings: peaks where the sound is, levels where its frequencies are, and no file left."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import soundfile

from ironclad.audio.info import AudioLimits
from ironclad.audio.sketch import FLOOR_DB, HIGHEST_HZ, LOWEST_HZ, sketch, spectrum
from ironclad.errors import NotAudio

if TYPE_CHECKING:
    from pathlib import Path

RATE = 44_100


def test_a_sine_in_the_second_half(tmp_path: Path) -> None:
    time = np.arange(2 * RATE) / RATE
    tone = np.where(time < 1, 0.0, 0.5 * np.sin(2 * np.pi * 1000 * time))
    path = tmp_path / "tone.wav"
    soundfile.write(path, np.stack([tone, tone], axis=1), RATE, subtype="FLOAT")
    found = sketch(path, tmp_path, AudioLimits(), parts=10, bands=30)
    assert (found.seconds, found.frames, found.sample_rate) == (2.0, 2 * RATE, RATE)
    assert found.peaks[:5] == (0.0,) * 5
    assert found.peaks[5:] == pytest.approx([0.5] * 5, abs=0.01)
    edges = np.geomspace(LOWEST_HZ, HIGHEST_HZ, 31)
    loudest = int(np.argmax(found.bands_db))
    assert edges[loudest] <= 1000 < edges[loudest + 1]
    assert FLOOR_DB <= found.bands_db[0] < found.bands_db[loudest] - 40
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tone.wav"]


def test_a_full_sine_is_at_zero_decibels() -> None:
    tone = np.sin(2 * np.pi * 1000 * np.arange(RATE) / RATE).astype(np.float32)[:, None]
    # A window of Hann spreads a line over three bins: 1.5 times the power of the middle one.
    assert max(spectrum(tone, RATE, 10)) == pytest.approx(10 * np.log10(1.5), abs=0.2)


def test_a_recording_shorter_than_a_window(tmp_path: Path) -> None:
    path = tmp_path / "short.wav"
    soundfile.write(path, np.full((100, 1), 0.25), 8000, subtype="FLOAT")
    found = sketch(path, tmp_path, AudioLimits(), parts=4, bands=5)
    assert found.peaks == pytest.approx([0.25] * 4)
    assert len(found.bands_db) == 5


def test_what_is_no_audio_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "page.mp3"
    path.write_bytes(b"<html>" * 100)
    with pytest.raises(NotAudio):
        sketch(path, tmp_path, AudioLimits())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["page.mp3"]
