"""A model's folder: which networks make the model, and which file is whose. Standard library and YAML only."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import yaml

from ironclad.engines.host.api import EngineError
from ironclad_engine_demucs.bags import BAGS, Bag

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def refuse(path: Path, reason: str) -> EngineError:
    """The error for a file that is not loaded."""
    return EngineError("model", f"{path.name}: {reason}")


def read_bag(folder: Path, model: str, suffixes: Sequence[str]) -> Bag:
    """What the model consists of: `NAME.yaml`, else the published one of this name, else the only network there.

    Raises `EngineError` (model).
    """
    lists = sorted(folder.glob("*.yaml"))
    named = folder / f"{model}.yaml"
    if named in lists or len(lists) == 1:
        return _parse_bag(named if named in lists else lists[0])
    if model in BAGS:
        return BAGS[model]
    files = [path for path in sorted(folder.glob("*")) if path.suffix in suffixes]
    if len(files) != 1:
        raise EngineError("model", f"{model} has {len(files)} networks and no {model}.yaml that says how they combine")
    return Bag((files[0].stem.partition("-")[0],))


def _parse_bag(path: Path) -> Bag:
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
        signatures = tuple(str(name) for name in data["models"])
        rows = data.get("weights")
        weights = None if rows is None else tuple(tuple(float(value) for value in row) for row in rows)
        segment = None if data.get("segment") is None else float(data["segment"])
    except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError, ValueError, AttributeError) as exc:
        raise refuse(path, f"not a list of networks ({exc})") from exc
    values = [value for row in weights or () for value in row]
    if not signatures or (weights is not None and len(weights) != len(signatures)):
        raise refuse(path, "not one row of weights a network")
    if any(not math.isfinite(value) or value < 0 for value in values) or (segment is not None and not segment > 0):
        raise refuse(path, "impossible weights or segment")
    if weights is not None and any(sum(column) <= 0 for column in zip(*weights, strict=True)):
        raise refuse(path, "a stem that no network makes")
    return Bag(signatures, weights, segment)


def file_of(folder: Path, signature: str, suffixes: Sequence[str]) -> Path:
    """The file of one network, in the first of these forms that is there. Raises `EngineError` (model)."""
    files = sorted(folder.glob("*"))
    for suffix in suffixes:
        for path in files:
            if path.suffix == suffix and path.stem.partition("-")[0] == signature:
                return path
    raise EngineError("model", f"there is no file for network {signature}")


def check_together(networks: Sequence[Any], bag: Bag, model: str) -> None:
    """Raises `EngineError` (model) for networks whose outputs cannot be averaged."""
    first = networks[0]
    alike = ("sources", "samplerate", "audio_channels")
    if any(getattr(network, name) != getattr(first, name) for network in networks for name in alike):
        raise EngineError("model", f"the networks of {model} do not belong together")
    if bag.weights is not None and any(len(row) != len(first.sources) for row in bag.weights):
        raise EngineError("model", f"{model} has not one weight a stem")
