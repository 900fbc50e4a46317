"""The centre engine's samples, without a process around it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ironclad.audio.synth import short_song
from ironclad.engines.builtin import ironclad_engines
from ironclad.engines.center import CenterSeparator
from ironclad.engines.host.api import EngineError, LoadRequest

Array = np.ndarray[Any, np.dtype[np.float32]]
(SPEC,) = ironclad_engines()
RATE = 44100


class Memory:
    """A reader and the sinks of one recording."""

    def __init__(self, mixture: Array, rate: int = RATE) -> None:
        self.mixture = mixture
        self.channels, self.frames_in = mixture.shape
        self.rate = rate
        self.blocks: list[dict[str, Array]] = []

    def read(self, start: int, count: int) -> Array:
        assert 0 <= start <= start + count <= self.frames_in
        return self.mixture[:, start : start + count].copy()

    def separate(self, **params: float) -> dict[str, Array]:
        reader = type("Reader", (), {"frames": self.frames_in, "channels": self.channels, "rate": self.rate})()
        reader.read = self.read
        sinks = type("Sinks", (), {"frames": 0, "wanted": set(SPEC.stems)})()

        def write(stems: dict[str, Array]) -> None:
            self.blocks.append({name: np.array(block) for name, block in stems.items()})
            sinks.frames += stems["vocals"].shape[1]

        sinks.write = write
        self.steps: list[tuple[int, int]] = []
        separator = CenterSeparator()
        separator.load(LoadRequest("none", "", "cpu"))
        separator.separate(reader, sinks, SPEC.resolve(params), lambda d, t: self.steps.append((d, t)), lambda: False)
        return {name: np.concatenate([block[name] for block in self.blocks], axis=1) for name in SPEC.stems}


def sdr(truth: Array, estimate: Array) -> float:
    return float(10 * np.log10((truth**2).sum() / ((truth - estimate) ** 2).sum()))


def noise(frames: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).uniform(-0.4, 0.4, (2, frames)).astype(np.float32)


def tone(hertz: float, seconds: float, left: float, right: float, rate: int = RATE) -> Array:
    wave = 0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)
    return (np.array([[left], [right]]) * wave).astype(np.float32)


@pytest.mark.parametrize("frames", [2, 1023, 1024, 4096, 5000, 128 * 1024, 128 * 1024 + 1, 140_000])
def test_length_is_kept_and_the_stems_sum_to_the_mixture(frames: int) -> None:
    mixture = noise(frames)
    stems = Memory(mixture).separate()
    assert {name: stem.shape for name, stem in stems.items()} == dict.fromkeys(SPEC.stems, (2, frames))
    assert np.abs(stems["vocals"] + stems["accompaniment"] - mixture).max() <= 2**-24
    np.testing.assert_array_equal(stems["vocals"][0], stems["vocals"][1])


@pytest.mark.parametrize("bits", [16, 24])
def test_the_sum_is_exact_for_integer_sources(bits: int) -> None:
    scale = 2 ** (bits - 1)
    mixture = (np.round(noise(50_000) * scale) / scale).astype(np.float32)
    stems = Memory(mixture).separate(low_hz=0)
    np.testing.assert_array_equal(stems["vocals"] + stems["accompaniment"], mixture)


def test_the_same_recording_gives_the_same_bits() -> None:
    mixture = short_song(3, 5).mixture
    first, second = Memory(mixture).separate(), Memory(mixture).separate()
    for name in SPEC.stems:
        np.testing.assert_array_equal(first[name], second[name])


def test_a_centred_tone_is_voice_and_one_at_the_side_is_not() -> None:
    voice, guitar = tone(660, 2, 1, 1), tone(1500, 2, 0.9, 0.1)
    stems = Memory(voice + guitar).separate()
    middle = slice(RATE // 2, 3 * RATE // 2)
    assert sdr(voice[:, middle], stems["vocals"][:, middle]) > 25
    assert sdr(guitar[:, middle], stems["accompaniment"][:, middle]) > 25


def test_bass_and_what_is_above_the_band_stay_in_the_accompaniment() -> None:
    side = tone(3000, 2, 0, 0.5)
    for hertz, params in ((60, {}), (150, {}), (5000, {"high_hz": 4000})):
        centred = tone(hertz, 2, 1, 1)
        stems = Memory(centred + side).separate(**params)
        assert sdr(centred + side, stems["accompaniment"]) > 20
    stems = Memory(tone(60, 2, 1, 1) + side).separate(low_hz=0, transients=0)
    assert sdr(tone(60, 2, 1, 1), stems["vocals"]) > 10


def test_a_drum_hit_in_the_centre_stays_in_the_accompaniment_unless_told_otherwise() -> None:
    hit = np.zeros((2, RATE), np.float32)
    burst = np.random.default_rng(3).normal(0, 0.3, 2000) * np.exp(-np.arange(2000) / 300)
    hit[:, RATE // 2 : RATE // 2 + 2000] = burst
    wide = noise(RATE) * np.float32(1e-3)
    energies = [
        float((Memory(hit + wide).separate(transients=value)["vocals"] ** 2).sum() / (hit**2).sum())
        for value in (0.0, 1.0, 4.0)
    ]
    assert energies[0] > 0.5
    assert energies[1] < 0.5 * energies[0]
    assert energies[2] < energies[1]


def test_sharper_takes_less() -> None:
    song = short_song(3, 8)
    loudness = [float((Memory(song.mixture).separate(sharpness=s)["vocals"] ** 2).sum()) for s in (1, 8, 64)]
    assert loudness == sorted(loudness, reverse=True)
    assert loudness[0] > loudness[2] * 1.2


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_song_is_better_separated_than_not_at_all(seed: int) -> None:
    song = short_song(4, seed)
    rest = song.mixture - song.stems["vocals"]
    stems = Memory(song.mixture).separate()
    assert sdr(rest, stems["accompaniment"]) > sdr(rest, song.mixture) + 6
    assert sdr(song.stems["vocals"], stems["vocals"]) > sdr(song.stems["vocals"], song.mixture) + 6


@pytest.mark.parametrize("rate", [8000, 22050, 48000, 96000, 192000])
def test_any_sample_rate_works(rate: int) -> None:
    voice, guitar = tone(660, 1, 1, 1, rate), tone(1500, 1, 0.9, 0.1, rate)
    stems = Memory(voice + guitar, rate).separate()
    assert stems["vocals"].shape[1] == rate
    middle = slice(rate // 4, 3 * rate // 4)
    assert sdr(voice[:, middle], stems["vocals"][:, middle]) > 15


def test_silence_gives_silence() -> None:
    stems = Memory(np.zeros((2, 30_000), np.float32)).separate()
    assert not any(stem.any() for stem in stems.values())


MONO = noise(300_000)[:1]


@pytest.mark.parametrize(
    ("mixture", "code"),
    [
        (MONO, "E_MONO_INPUT"),
        (np.vstack([MONO, MONO]), "E_MONO_INPUT"),
        (np.vstack([MONO, MONO * np.float32(0.5)]), "E_MONO_INPUT"),
        (np.vstack([MONO, -MONO]), "E_MONO_INPUT"),
        (np.vstack([MONO, MONO + noise(300_000, 9)[:1] * np.float32(1e-3)]), "E_MONO_INPUT"),
        (np.vstack([MONO, MONO * 0]), "E_MONO_INPUT"),
        (np.vstack([noise(1000)] * 3), "E_TOO_MANY_CHANNELS"),
    ],
    ids=["mono", "dual mono", "unequal mono", "inverted mono", "nearly mono", "one side only", "six channels"],
)
def test_what_has_no_stereo_to_go_by_is_refused(mixture: Array, code: str) -> None:
    with pytest.raises(EngineError) as caught:
        Memory(mixture.astype(np.float32)).separate()
    assert (caught.value.kind, caught.value.code) == ("input", code)


def test_a_narrow_recording_is_still_stereo() -> None:
    narrow = np.vstack([MONO, MONO]) + noise(300_000, 9) * np.float32(0.03)
    assert Memory(narrow.astype(np.float32)).separate()["vocals"].shape == (2, 300_000)


def test_progress_never_goes_back_and_ends_complete() -> None:
    recording = Memory(noise(400_000))
    recording.separate()
    done = [step[0] for step in recording.steps]
    assert done == sorted(done)
    assert len(done) >= 5
    assert recording.steps[-1][0] == recording.steps[-1][1]


def test_it_runs_on_the_processor_only() -> None:
    with pytest.raises(EngineError) as caught:
        CenterSeparator().load(LoadRequest("none", "", "cuda"))
    assert caught.value.kind == "model"
