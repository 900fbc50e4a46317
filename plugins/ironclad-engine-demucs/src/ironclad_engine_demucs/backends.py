"""What can run a model's networks here, and which of it is the fastest that is right.

`auto` loads each backend once, lets it separate the reference second (`reference`), and takes the fastest of those that
agree with PyTorch: with PyTorch itself, where it is installed and has weights, else with what PyTorch made when the
graph was exported, else with one another. The finding is kept in the environment until packages, model or number of
threads change.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import importlib.util
import json
import os
import sys
import time
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ironclad.engines.host.api import EngineError
from ironclad_engine_demucs import __version__, graphs, reference
from ironclad_engine_demucs.bags import NAMES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ironclad_engine_demucs.bags import Bag
    from ironclad_engine_demucs.networks import Network, Samples

AUTO: Final = "auto"
PYTORCH: Final = "pytorch"
FINDINGS: Final = "ironclad-backends.json"
_PACKAGES: Final = {"openvino": ("openvino",), "onnxruntime": ("onnxruntime",), PYTORCH: ("torch", "demucs")}
_KEPT: Final = 32
_PATIENCE_SECONDS: Final = 60.0
"""How long backends are tried after the first one that is right."""


@dataclass(frozen=True)
class Loaded:
    """Networks that are ready, and how they are averaged."""

    backend: str
    networks: Sequence[Network]
    bag: Bag


@dataclass(frozen=True)
class Trial:
    """What a backend did with the reference second: each network's answer, and seconds for one segment of them all.

    They are processor seconds: unlike the clock's they are the same whatever else the machine does meanwhile, and they
    are what a machine that runs several hosts is short of.
    """

    answers: Sequence[Samples]
    seconds: float


def installed() -> list[str]:
    """Those whose packages are in this environment."""
    return [name for name in NAMES if all(importlib.util.find_spec(package) for package in _PACKAGES[name])]


def usable(folder: Path, model: str, device: str = "cpu") -> list[str]:
    """Those that are installed, can use the device and find their form of the model."""
    if device != "cpu":
        return [PYTORCH] if PYTORCH in installed() else []
    weights = any(path.suffix in {".th", ".safetensors"} for path in folder.glob("*"))
    try:
        graphs.files(folder, model)
        graphed = True
    except EngineError:
        graphed = False
    return [name for name in installed() if (weights if name == PYTORCH else graphed)]


def load(name: str, folder: Path, model: str, device: str = "cpu") -> Loaded:
    """A model with one backend. Raises `EngineError` (model)."""
    if name == PYTORCH:
        from ironclad_engine_demucs import pytorch  # noqa: PLC0415  # imports torch, which may not be there

        pytorch.check_device(device)
        return Loaded(name, *pytorch.load(folder, model, device))
    if device != "cpu":
        raise EngineError("model", f"{name} is for CPUs, not for {device}")
    return Loaded(name, *graphs.load(folder, model, name))


def choose(folder: Path, model: str, device: str = "cpu", say: Callable[[str], None] = lambda _line: None) -> Loaded:
    """The fastest backend that is right, loaded. Raises `EngineError` (model) if there is none."""
    names = usable(folder, model, device)
    if not names:
        raise EngineError("model", missing(folder, model, device))
    if names == [PYTORCH]:
        return load(PYTORCH, folder, model, device)
    key = _key(folder, model, names)
    found = _recall(key)
    if found not in names:
        found = _find(names, folder, model, say)
        _remember(key, found)
    return load(found, folder, model, device)


def missing(folder: Path, model: str, device: str) -> str:
    """Why nothing here can run a model, in words."""
    if device != "cpu":
        return f"there is no {device.partition(':')[0]} device here: PyTorch is not in this environment"
    if PYTORCH in installed():
        return f"{model} has neither weights nor a graph that this version reads in {folder.name}"
    return (
        f"{model} has no graph for {' or '.join(installed()) or 'any runtime'}. Run `ironclad models convert demucs "
        f"{model}` with the pytorch environment, or import graphs made elsewhere"
    )


def attempt(loaded: Loaded) -> Trial:
    """Separate the reference second."""
    mixtures = [reference.mixture(network) for network in loaded.networks]
    began = time.process_time()
    whole = [network(mixture[None])[0] for network, mixture in zip(loaded.networks, mixtures, strict=True)]
    seconds = time.process_time() - began
    rates = [network.samplerate for network in loaded.networks]
    return Trial([reference.second(one, rate) for one, rate in zip(whole, rates, strict=True)], seconds)


def fastest(trials: Mapping[str, Trial], truth: Sequence[Samples] | None) -> tuple[str | None, dict[str, float]]:
    """The fastest of those that agree with the truth, and the agreement of each in dB.

    Without a truth each is compared with the one that agrees best with it; one alone is taken if it is finite.
    """
    agreements: dict[str, float] = {}
    for name, trial in trials.items():
        others = [truth] if truth is not None else [one.answers for other, one in trials.items() if other != name]
        found = [_worst(answers, trial.answers) for answers in others]
        alone = float("inf") if all(np.isfinite(answer).all() for answer in trial.answers) else float("-inf")
        agreements[name] = max(found, default=alone)
    right = [name for name in trials if agreements[name] >= reference.ENOUGH_DB]
    return min(right, key=lambda name: trials[name].seconds, default=None), agreements


def _worst(truth: Sequence[Samples], answers: Sequence[Samples]) -> float:
    if len(truth) != len(answers):
        return float("-inf")
    return min(reference.agreement_db(one, other) for one, other in zip(truth, answers, strict=True))


def _find(names: Sequence[str], folder: Path, model: str, say: Callable[[str], None]) -> str:
    """Try each, one at a time in memory; on a machine that is very busy, only until one is right."""
    trials: dict[str, Trial] = {}
    truth = _recorded(folder, model)
    began = time.monotonic()
    for name in names:
        if time.monotonic() - began > _PATIENCE_SECONDS and fastest(trials, truth)[0] is not None:
            say(f"backend {name} is not tried: this takes too long")
            continue
        try:
            loaded = load(name, folder, model)
            trials[name] = attempt(loaded)
            if name == PYTORCH:
                truth = trials[name].answers
        except (EngineError, RuntimeError, ValueError, ImportError, OSError) as exc:
            say(f"backend {name} does not work: {exc}")
        loaded = None  # type: ignore[assignment]  # frees it before the next one comes
        _give_back()
    chosen, agreements = fastest(trials, truth)
    for name, trial in trials.items():
        say(f"backend {name}: {trial.seconds:.2f} processor seconds for a segment, agrees to {agreements[name]:.0f} dB")
    if chosen is None:
        raise EngineError("model", f"no backend agrees with the others on {model}: {agreements}")
    say(f"backend {chosen} is used for {model}")
    return chosen


def _give_back() -> None:
    """Let the C library return what was freed, where it can (glibc), or the next one's peak would come on top."""
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)


def _recorded(folder: Path, model: str) -> list[Samples] | None:
    """What PyTorch made of the reference second when the graphs were exported, if that is there for all of them."""
    try:
        paths, _bag = graphs.files(folder, model)
        return [np.load(path.with_suffix(".npy"), allow_pickle=False) for path in paths]
    except (EngineError, OSError, ValueError):
        return None


def _key(folder: Path, model: str, names: Sequence[str]) -> str:
    """What a finding depends on."""
    stamps = [
        (path.relative_to(folder).as_posix(), path.stat().st_size, path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    ]
    versions = [metadata.version(package) for name in names for package in _PACKAGES[name]]
    facts = [__version__, model, os.environ.get("OMP_NUM_THREADS", "1"), *names, *versions, stamps]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _findings() -> Path | None:
    """Only an environment of the engine's own is a place to keep things."""
    return Path(sys.prefix, FINDINGS) if sys.prefix != sys.base_prefix else None


def _read() -> dict[str, Any]:
    path = _findings()
    with contextlib.suppress(OSError, ValueError):
        data = json.loads(path.read_text(encoding="utf-8")) if path is not None else {}
        return data if isinstance(data, dict) else {}
    return {}


def _recall(key: str) -> str | None:
    found = _read().get(key)
    return found if isinstance(found, str) else None


def _remember(key: str, name: str) -> None:
    path = _findings()
    if path is None:
        return
    kept = dict(list(_read().items())[-_KEPT:])
    with contextlib.suppress(OSError):  # measured again next time
        temporary = path.with_name(f".{FINDINGS}.{os.getpid()}")
        temporary.write_text(json.dumps({**kept, key: name}, indent=1), encoding="utf-8")
        temporary.replace(path)
