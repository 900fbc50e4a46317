"""The built-in engine in a real host."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from ironclad import errors
from ironclad.audio.synth import short_song
from ironclad.engines.client import EngineHost
from ironclad.engines.plan import plan
from ironclad.engines.pool import HostPool
from ironclad.engines.registry import installed_engines
from ironclad.engines.separation import HostSettings, SeparationRequest, resolved

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ironclad.engines.separation import Progress, Separation

CENTER = installed_engines().get("center")


@pytest.fixture(scope="module")
def pool() -> Iterator[HostPool]:
    with HostPool() as made:
        yield made


@contextlib.contextmanager
def leased(pool: HostPool) -> Iterator[Any]:
    """A host's `separate` with what a request leaves open filled in."""
    with pool.lease(plan(CENTER, settings=HostSettings(cancel_seconds=60.0))) as host:

        def separate(request: SeparationRequest, **more: Any) -> Separation:
            return host.separate(resolved(CENTER, "", request), **more)

        yield SimpleNamespace(separate=separate, host=host)


def write(folder: Path, samples: np.ndarray) -> SeparationRequest:  # type: ignore[type-arg]  # any float array
    samples.T.astype("<f4").tofile(folder / "mix.f32")
    return SeparationRequest(
        input=folder / "mix.f32", frames=samples.shape[1], channels=samples.shape[0], rate=44100, output=folder
    )


def test_separates_a_song_with_progress(pool: HostPool, tmp_path: Path) -> None:
    song = short_song(6, 4)
    steps: list[Progress] = []
    with leased(pool) as host:
        result = host.separate(write(tmp_path, song.mixture), progress=steps.append)
    stems = {name: np.fromfile(stem.path, "<f4").reshape(-1, 2).T for name, stem in result.stems.items()}
    assert list(stems) == ["vocals", "accompaniment"]
    assert stems["vocals"].shape == song.mixture.shape
    assert np.abs(stems["vocals"] + stems["accompaniment"] - song.mixture).max() <= 2**-24
    assert steps[-1].fraction == 1.0
    assert [step.fraction for step in steps] == sorted(step.fraction for step in steps)


def test_two_hosts_and_a_warm_one_agree_to_the_bit(pool: HostPool, tmp_path: Path) -> None:
    request = write(tmp_path, short_song(2, 4).mixture)
    digests = []
    for _ in range(2):
        with leased(pool) as host:
            digests.append(host.separate(request).stems["vocals"].sha256)
    with EngineHost(CENTER, settings=HostSettings(threads=2)) as other:
        digests.append(other.separate(request).stems["vocals"].sha256)
    assert len(set(digests)) == 1


def test_mono_is_refused_and_the_host_goes_on(pool: HostPool, tmp_path: Path) -> None:
    mono = np.tile(short_song(1, 4).mixture[:1], (2, 1))
    with leased(pool) as host:
        with pytest.raises(errors.MonoInput, match="one stereo position"):
            host.separate(write(tmp_path, mono))
        assert host.separate(write(tmp_path, short_song(1, 4).mixture)).stems


def test_memory_does_not_grow_with_length(pool: HostPool, tmp_path: Path) -> None:
    song = short_song(10, 4).mixture
    peaks = []
    with EngineHost(CENTER) as host:
        for repeats in (1, 12):
            host.separate(write(tmp_path, np.tile(song, (1, repeats))))
            peaks.append(host.stats(60).peak_rss)
    assert peaks[1] <= peaks[0] + 8 * 2**20  # two minutes of stereo are 42 MB
    assert peaks[1] < CENTER.memory_for(44100 * 3600, 44100) * 1.3


def test_a_cancelled_separation_leaves_the_host_and_no_file(pool: HostPool, tmp_path: Path) -> None:
    def stop(_: Progress) -> None:
        raise errors.Cancelled

    with leased(pool) as host:
        with pytest.raises(errors.Cancelled):
            host.separate(write(tmp_path, np.tile(short_song(10, 4).mixture, (1, 30))), progress=stop)
        assert host.host.alive
    assert [path.name for path in tmp_path.iterdir()] == ["mix.f32"]
