"""A short recording, and hosts that run the engines in `rogues/`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from rogue_specs import ROGUES, rogue_spec

from ironclad.engines.client import EngineHost
from ironclad.engines.separation import HostSettings, SeparationRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

FRAMES = 4410


@pytest.fixture
def mixture(tmp_path: Path) -> np.ndarray[Any, np.dtype[np.float32]]:
    samples = np.random.default_rng(1).uniform(-0.5, 0.5, (2, FRAMES)).astype(np.float32)
    samples.T.astype("<f4").tofile(tmp_path / "mix.f32")
    (tmp_path / "out").mkdir()
    return samples


@pytest.fixture
def request_for(mixture: np.ndarray[Any, Any], tmp_path: Path) -> Callable[..., SeparationRequest]:
    def build(**changes: Any) -> SeparationRequest:
        fields = {
            "input": tmp_path / "mix.f32",
            "frames": FRAMES,
            "channels": 2,
            "rate": 44100,
            "output": tmp_path / "out",
        }
        params = {key: changes.pop(key) for key in ("steps", "pause", "what") if key in changes}
        return SeparationRequest(**{**fields, "params": params, **changes})

    return build


@pytest.fixture
def build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., EngineHost]]:
    """Makes a host for a rogue engine, not started; every host is closed at the end."""
    monkeypatch.setenv("HOME", str(tmp_path))
    made: list[EngineHost] = []

    def make(name: str, *, argv: Any = None, interpreter: Path | None = None, **changes: Any) -> EngineHost:
        times = {"stall_seconds": 60.0, "cancel_seconds": 1.0, "start_seconds": 60.0, "load_seconds": 60.0}
        fields = {field: changes.pop(field) for field in ("environment",) if field in changes}
        settings = HostSettings(search_path=(ROGUES,), **{**times, **changes})
        made.append(
            EngineHost(replace(rogue_spec(name), **fields), settings=settings, argv=argv, interpreter=interpreter)
        )
        return made[-1]

    yield make
    for engine_host in made:
        engine_host.close()


@pytest.fixture
def host(build: Callable[..., EngineHost]) -> Callable[..., EngineHost]:
    """Starts a host for a rogue engine."""
    return lambda name, **changes: build(name, **changes).start()
