"""Fingerprints of untrusted files: those of fpcalc itself, taken by the limited child."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import psutil
import pytest
import soundfile

from ironclad.audio import fingerprint as module
from ironclad.audio.fingerprint import PROGRAM, fingerprint
from ironclad.errors import Cancelled

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from ironclad.audio.info import AudioLimits

RATE = 22_050
needs_fpcalc = pytest.mark.skipif(
    shutil.which(PROGRAM) is None, reason="fpcalc is not installed (Debian: libchromaprint-tools)"
)


def melody(seconds: float = 12.0, channels: int = 2, seed: int = 3) -> NDArray[np.float32]:
    """Four chords a second: noise and steady tones have no fingerprint to speak of."""
    random = np.random.default_rng(seed)
    time = np.arange(RATE // 4) / RATE
    chords = [
        sum(np.sin(2 * np.pi * 110 * 2 ** (note / 12) * time) for note in random.choice(36, 3, replace=False))
        for _ in range(round(seconds * 4))
    ]
    return np.repeat(np.concatenate(chords)[:, None] * 0.2, channels, axis=1).astype(np.float32)


def own(path: Path) -> str:
    """What the program says of the file by itself."""
    done = subprocess.run([PROGRAM, "-json", path], capture_output=True, check=False, timeout=60)
    return str(json.loads(done.stdout)["fingerprint"])


@pytest.fixture
def song(tmp_path: Path) -> Path:
    path = tmp_path / "song.flac"
    soundfile.write(path, melody(), RATE, subtype="PCM_16")
    return path


@needs_fpcalc
def test_it_is_the_one_that_others_compute(song: Path, limits: AudioLimits) -> None:
    found = fingerprint(song, limits)
    assert found.problem == ""
    assert found.text == own(song)


@needs_fpcalc
def test_other_music_sounds_otherwise_and_only_two_minutes_count(tmp_path: Path, limits: AudioLimits) -> None:
    long, longer, other = (tmp_path / f"{name}.wav" for name in ("long", "longer", "other"))
    sound = melody(120.0, channels=1)
    soundfile.write(long, sound, RATE)
    soundfile.write(longer, np.concatenate([sound, melody(3.0, channels=1, seed=9)]), RATE)
    soundfile.write(other, melody(120.0, channels=1, seed=4), RATE)
    prints = [fingerprint(path, limits).text for path in (long, longer, other)]
    assert prints[0] == prints[1]
    assert prints[0] != prints[2]


@needs_fpcalc
@pytest.mark.parametrize("channels", [1, 6])
def test_any_number_of_channels(channels: int, tmp_path: Path, song: Path, limits: AudioLimits) -> None:
    path = tmp_path / "wide.wav"
    soundfile.write(path, melody(channels=channels), RATE, subtype="FLOAT")
    assert fingerprint(path, limits).text == fingerprint(song, limits).text


@needs_fpcalc
@pytest.mark.parametrize("what", ["text", "short", "silence", "playlist"])
def test_what_has_no_fingerprint_says_why(what: str, tmp_path: Path, limits: AudioLimits) -> None:
    path = tmp_path / "odd.mp3"
    match what:
        case "text":
            path.write_bytes(b"not audio at all" * 99)
        case "short":
            path = tmp_path / "short.wav"
            soundfile.write(path, melody(1.0)[:999], RATE)
        case "silence":
            path = tmp_path / "silence.wav"
            soundfile.write(path, np.zeros((RATE * 5, 2)), RATE)
        case _:
            secret = tmp_path / "secret.wav"
            soundfile.write(secret, melody(), RATE)
            path.write_text(f"#EXTM3U\n#EXTINF:10,\n{secret}\n", encoding="utf-8")
    found = fingerprint(path, limits)
    if what == "silence":  # Chromaprint has a fingerprint for it; AcoustID knows none such
        assert found.text
    else:
        assert (found.text, bool(found.problem)) == ("", True)


def test_without_the_program_there_is_none(song: Path, limits: AudioLimits, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    assert fingerprint(song, limits).problem == "fpcalc is not installed"


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """`stand_in(script)` puts another program in fpcalc's place."""
    return lambda script: _put(tmp_path, monkeypatch, script)


def _put(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    program = tmp_path / "bin" / PROGRAM
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setattr(module, "program", lambda: str(program))


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("cat >/dev/null; echo no json", "did not answer with a fingerprint"),
        ("cat >/dev/null; echo '[1]'", "did not answer with a fingerprint"),
        ("cat >/dev/null; echo it is broken >&2; exit 2", "status 2: it is broken"),
        ("exit 0", "status 0"),
        ("kill -SEGV $$", "status -11"),
    ],
)
def test_a_program_that_fails_costs_nothing_but_the_fingerprint(
    script: str, said: str, song: Path, limits: AudioLimits, stand_in: Callable[[str], None]
) -> None:
    stand_in(script)
    found = fingerprint(song, limits)
    assert (found.text, said in found.problem) == ("", True), found


def test_a_program_that_hangs_is_stopped_with_its_family(
    song: Path, limits: AudioLimits, tmp_path: Path, stand_in: Callable[[str], None]
) -> None:
    pid = tmp_path / "pid"
    stand_in(f"echo $$ > {pid}.new; mv {pid}.new {pid}; exec sleep 600")

    def stop() -> None:
        if pid.exists():
            raise Cancelled

    with pytest.raises(Cancelled):
        fingerprint(song, limits, check=stop)
    with contextlib.suppress(psutil.NoSuchProcess):
        left = psutil.Process(int(pid.read_text(encoding="ascii")))
        psutil.wait_procs([left], timeout=60)  # a container's first process may take its time to collect it
        assert not left.is_running() or left.status() == psutil.STATUS_ZOMBIE


def test_the_time_limit_holds(song: Path, limits: AudioLimits, stand_in: Callable[[str], None]) -> None:
    stand_in("exec sleep 600")
    found = fingerprint(song, replace(limits, decode_wall_seconds=1.0))
    assert found.problem.startswith("E_DECODE_LIMIT")


def test_both_are_forbidden_to_start_another(
    song: Path, limits: AudioLimits, tmp_path: Path, stand_in: Callable[[str], None]
) -> None:
    seen = tmp_path / "seen"
    # The limit is set from outside, so the shell waits for it by reading the audio first.
    stand_in(
        f"while read -r line; do :; done; while read -r line; do case $line in *processes*) echo $line;; esac; "
        f"done < /proc/self/limits > {seen}; while read -r line; do case $line in *processes*) echo $line;; esac; "
        f"done < /proc/$PPID/limits >> {seen}",
    )
    fingerprint(song, limits)
    assert [line.split()[:4] for line in seen.read_text(encoding="ascii").splitlines()] == [
        ["Max", "processes", "0", "0"]
    ] * 2
