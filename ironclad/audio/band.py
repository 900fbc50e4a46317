"""The players of a synthesised song: composing and rendering each part.

The voice is a glottal pulse train through the formants of vowels: a cascade of resonances after D. H. Klatt, "Software
for a cascade/parallel formant synthesizer", JASA 67(3), 1980, with the formant frequencies of G. E. Peterson and H. L.
Barney, "Control methods used in a study of the vowels", JASA 24(2), 1952.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.random import Generator
    from numpy.typing import NDArray

    Signal = NDArray[np.float64]

_TABLE = 4096
_VOWELS = {
    "a": (730.0, 1090.0, 2440.0), "e": (530.0, 1840.0, 2480.0), "i": (270.0, 2290.0, 3010.0),
    "o": (570.0, 840.0, 2410.0), "u": (300.0, 870.0, 2240.0),
}  # fmt: skip
_UPPER_FORMANTS = (3300.0, 4200.0)
_CONSONANTS = {
    "s": (4500.0, 9500.0, 0.09),
    "sh": (2200.0, 6000.0, 0.08),
    "t": (2500.0, 8000.0, 0.025),
    "h": (500.0, 3000.0, 0.06),
}
MAJOR, MINOR = (0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10)
_HARMONICS = np.arange(1, 64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Style:
    """How a song is made. Chords are semitones above `key` (a MIDI note); patterns are sixteenths of a 4/4 bar."""

    bpm: float = 120.0
    bars: int = 6
    key: int = 57
    scale: tuple[int, ...] = MINOR
    chords: tuple[tuple[int, ...], ...] = ((0, 3, 7), (-4, 0, 3), (3, 7, 10), (-2, 2, 5))
    timbre: str = "pad"
    """`pad` (soft, held), `pluck` (broken chords, decaying) or `organ` (held, bright, off the beat)."""
    kick: str = "x.....x.x......."
    snare: str = "....x.......x..."
    hat: str = "x.x.x.x.x.x.x.xx"
    voice: int = 12
    """Semitones from the key to the middle of the voice's range."""
    room: float = 0.12
    """Level of the voice's reverberation, which is as wide as in a record."""


class Band:
    """One performance. Every part is float64 `(2, frames)`."""

    def __init__(self, style: Style, random: Generator, bars: int, frames: int, rate: int) -> None:
        self._style, self._random, self._bars, self._frames, self._rate = style, random, bars, frames, rate
        self._sixteenth = 15 / style.bpm

    def vocals(self) -> Signal:
        """The sung melody, in the centre, with its room."""
        line = np.zeros(self._frames)
        previous = 0.0
        for start, length, note in self._melody():
            frequency = _hertz(note)
            samples = self._sing(frequency, previous or frequency, length)
            previous = frequency
            _mix(line, samples, round(start * self._rate))
            name = str(self._random.choice(list(_CONSONANTS)))
            low, high, duration = _CONSONANTS[name]
            burst = self._noise(low, high, duration) * 0.35
            _mix(line, burst, round((start - 0.6 * duration) * self._rate))
        part = np.stack([line, line])
        return part if not self._style.room else part + self._reverberate(line) * self._style.room

    def bass(self) -> Signal:
        """The bass, in the centre."""
        line = np.zeros(self._frames)
        table = _table(np.exp(-_HARMONICS / 4.0) / _HARMONICS)
        for bar in range(self._bars):
            root = self._style.key + self._chord(bar)[0]
            root -= 12 * ((root - 28) // 12)
            for step, length in ((0, 5), (6, 2), (8, 4), (12, 3)):
                note = root + (12 if step == 12 and self._random.random() < 0.5 else 0)  # noqa: PLR2004  # last beat
                seconds = length * self._sixteenth
                tone = _tone(table, np.full(round(seconds * self._rate), _hertz(note)), self._rate)
                _mix(line, tone * _envelope(len(tone), self._rate, 0.008, 0.04, 1.5), self._at(bar, step))
        return np.stack([line, line])

    def drums(self) -> Signal:
        """Kick, snare and hat, a little to the sides."""
        part = np.zeros((2, self._frames))
        time = np.arange(round(0.35 * self._rate)) / self._rate
        thump = np.sin(2 * np.pi * (48 * time + 105 / 28 * (1 - np.exp(-28 * time)))) * np.exp(-9 * time)
        click = self._noise(800, 5000, 0.006) * 0.3
        kick = thump + np.pad(click, (0, len(thump) - len(click)))
        body = np.sin(2 * np.pi * 185 * time) * np.exp(-22 * time) * 0.5
        rattle = np.stack([self._noise(1200, 9000, 0.35) for _ in range(2)]) * np.exp(-16 * time)
        snare = np.array([[1.0], [0.8]]) * (body + rattle * 1.4)
        tick = np.stack([self._noise(6500, 16000, 0.08) for _ in range(2)]) * np.exp(
            -60 * time[: round(0.08 * self._rate)]
        )
        hits = ((self._style.kick, np.stack([kick, kick * 0.94])), (self._style.snare, snare),
                (self._style.hat, tick * np.array([[0.6], [1.1]])))  # fmt: skip
        for pattern, hit in hits:
            for bar in range(self._bars):
                for step in [index for index, mark in enumerate(pattern) if mark == "x"]:
                    loudness = 1.0 if step % 4 == 0 else self._random.uniform(0.6, 0.9)
                    _mix(part, hit * loudness, self._at(bar, step))
        return part

    def chords(self) -> Signal:
        """The chords, spread from left to right."""
        part = np.zeros((2, self._frames))
        brightness = {"pad": 5.0, "pluck": 7.0, "organ": 10.0}[self._style.timbre]
        table = _table(np.exp(-_HARMONICS / brightness) / np.sqrt(_HARMONICS))
        held = {"pad": (0.25, 0.3, 0.3), "pluck": (0.004, 0.05, 4.0), "organ": (0.01, 0.03, 0.5)}[self._style.timbre]
        for bar in range(self._bars):
            notes = [self._style.key + interval for interval in self._chord(bar)]
            for step, length, index in self._strokes(len(notes)):
                for voice in range(len(notes)) if index is None else (index,):
                    frames = round(length * self._sixteenth * self._rate)
                    pan = np.pi / 2 * (0.12 + 0.76 * ((voice * 2 + bar) % len(notes)) / max(1, len(notes) - 1))
                    # Left and right a few cents apart, as two microphones or a chorus would have them.
                    cents = np.array([-1, 1]) * self._random.uniform(2, 5)
                    sides = np.stack(
                        [
                            _tone(
                                table,
                                np.full(frames, _hertz(notes[voice] + c / 100)),
                                self._rate,
                                self._random.random(),
                            )
                            for c in cents
                        ]
                    )
                    held = {"pad": (0.25, 0.3, 0.3), "pluck": (0.004, 0.05, 4.0), "organ": (0.01, 0.03, 0.5)}[
                        self._style.timbre
                    ]
                    gains = np.array([[np.cos(pan)], [np.sin(pan)]])
                    _mix(part, sides * gains * _envelope(frames, self._rate, *held), self._at(bar, step))
        return part

    def _strokes(self, notes: int) -> list[tuple[int, int, int | None]]:
        """When the chord is played in a bar: sixteenth, length in sixteenths, which note (None: all)."""
        if self._style.timbre == "pluck":
            return [(step, 5, (step // 2) % notes) for step in range(0, 16, 2)]
        if self._style.timbre == "organ":
            return [(step, 2, None) for step in (2, 6, 10, 14)]
        return [(0, 16, None)]

    def _melody(self) -> list[tuple[float, float, int]]:
        """Start in seconds, length in seconds, MIDI note: a walk on the scale that meets the chord on strong beats."""
        middle = self._style.key + self._style.voice
        ladder = [note for note in range(middle - 8, middle + 9) if (note - self._style.key) % 12 in self._style.scale]
        place, melody = len(ladder) // 2, []
        for bar in range(self._bars):
            tones = {(self._style.key + interval) % 12 for interval in self._chord(bar)}
            rhythm = ((2, 2), (4, 4), (8, 3), (11, 3)) if bar % 2 == 0 else ((0, 4), (4, 2), (6, 6))
            for step, length in rhythm:
                place = int(np.clip(place + self._random.integers(-2, 3), 0, len(ladder) - 1))
                if step % 8 == 0:
                    strong = [index for index, note in enumerate(ladder) if note % 12 in tones]
                    place = strong[int(np.abs(np.array(strong) - place).argmin())]
                start = (bar * 16 + step) * self._sixteenth + self._random.uniform(-0.008, 0.012)
                melody.append((start, length * self._sixteenth * 0.94, ladder[place]))
        return melody

    def _sing(self, frequency: float, previous: float, seconds: float) -> Signal:
        """One note: a slide from the note before, then vibrato that grows; one vowel gliding into another."""
        frames = round(seconds * self._rate)
        time = np.arange(frames) / self._rate
        slide = np.log2(previous / frequency) * np.exp(-time / 0.03)
        vibrato = (
            0.03 * np.clip((time - 0.15) / 0.3, 0, 1) * np.sin(2 * np.pi * 5.6 * time + self._random.uniform(0, 6))
        )
        drift = np.interp(time, np.linspace(0, seconds, 8), self._random.normal(0, 0.004, 8))
        pitch = frequency * 2 ** (slide + vibrato + drift)
        first, second = (str(vowel) for vowel in self._random.choice(list(_VOWELS), 2))
        tones = [_tone(_voice_table(vowel, frequency, self._rate), pitch, self._rate) for vowel in (first, second)]
        glide = np.clip((time / seconds - 0.45) / 0.4, 0, 1)
        breath = self._noise(900, 5000, seconds) * 0.012
        return ((1 - glide) * tones[0] + glide * tones[1] + breath) * _envelope(frames, self._rate, 0.035, 0.07, 0.4)

    def _reverberate(self, line: Signal) -> Signal:
        """A room of 1.2 s, left and right independent, 15 ms after the voice."""
        length, delay = round(1.2 * self._rate), round(0.015 * self._rate)
        decay = np.exp(-6.9 * np.arange(length) / length)
        room = np.pad(self._random.normal(0, 1, (2, length)) * decay, ((0, 0), (delay, 0)))
        size = 1 << int(np.ceil(np.log2(self._frames + room.shape[1])))
        wet = np.fft.irfft(np.fft.rfft(line, size) * np.fft.rfft(room, size), size)[:, : self._frames]
        return wet * float(np.sqrt(np.mean(line**2)) / (np.sqrt(np.mean(wet**2)) + 1e-12))

    def _noise(self, low: float, high: float, seconds: float) -> Signal:
        """Noise between two frequencies in Hz, about as loud as a tone of amplitude 1."""
        frames = round(seconds * self._rate)
        size = 1 << (frames - 1).bit_length()  # a power of two, for the transform's speed
        frequencies = np.fft.rfftfreq(size, 1 / self._rate)
        shape = 1 / (1 + (low / np.maximum(frequencies, 1)) ** 6) / (1 + (frequencies / high) ** 6)
        noise = np.fft.irfft(np.fft.rfft(self._random.normal(0, 1, size)) * shape, size)[:frames]
        return np.asarray(noise * np.hanning(frames) ** 0.25 / (np.abs(noise).max() + 1e-12))

    def _chord(self, bar: int) -> tuple[int, ...]:
        return self._style.chords[bar % len(self._style.chords)]

    def _at(self, bar: int, step: int) -> int:
        return round((bar * 16 + step) * self._sixteenth * self._rate)


def _hertz(note: float) -> float:
    """The frequency of a MIDI note."""
    return float(440.0 * 2 ** ((note - 69) / 12))


def _table(amplitudes: Signal) -> Signal:
    """One period of a wave with these amplitudes of its harmonics, peak 1."""
    spectrum = np.zeros(_TABLE // 2 + 1, complex)
    spectrum[1 : 1 + len(amplitudes)] = amplitudes
    wave = np.fft.irfft(spectrum)
    return np.asarray(wave / np.abs(wave).max())


def _voice_table(vowel: str, frequency: float, rate: int) -> Signal:
    """One period of a sung vowel: harmonics falling by 6 dB an octave (source and radiation) through its formants."""
    harmonic = np.arange(1, max(2, int(min(12000.0, 0.45 * rate) / frequency)))
    hertz = harmonic * frequency
    amplitudes = 1.0 / harmonic
    for formant in (*_VOWELS[vowel], *_UPPER_FORMANTS):
        ratio, width = hertz / formant, (50 + formant / 20) / formant
        amplitudes = amplitudes / np.sqrt((1 - ratio**2) ** 2 + (width * ratio) ** 2)
    return _table(amplitudes)


def _tone(table: Signal, frequency: Signal, rate: int, phase: float = 0.0) -> Signal:
    """A wave table played at a frequency in Hz for each sample."""
    position = (phase + np.cumsum(frequency / rate)) * _TABLE
    return np.asarray(table[position.astype(np.int64) % _TABLE])


def _envelope(frames: int, rate: int, attack: float, release: float, decay: float) -> Signal:
    """Rise and fall in seconds, and exponential decay per second in between."""
    time = np.arange(frames) / rate
    return np.asarray(np.minimum(1, time / attack) * np.minimum(1, time[::-1] / release) * np.exp(-decay * time))


def _mix(part: Signal, samples: Signal, start: int) -> None:
    """Add samples to a part from a frame on; what is before its start or beyond its end is cut off."""
    first, end = max(0, -start), min(samples.shape[-1], part.shape[-1] - start)
    if end > first:
        part[..., start + first : start + end] += samples[..., first:end]
