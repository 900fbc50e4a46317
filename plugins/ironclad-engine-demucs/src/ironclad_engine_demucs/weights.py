"""Reading networks from files without running anything that is in them.

Demucs' own loaders run code: a `.th` file is a pickle, and its safetensors loader imports and calls whatever class the
file's metadata names. Here a class is one of three, its arguments are plain data, tensors are read as bytes, and
pickles are read by PyTorch's restricted unpickler; a file that needs more is refused, unless it is, byte for byte, one
that is published with Demucs (`bags.FILES`).
"""

from __future__ import annotations

import hashlib
import json
import math
import pickle
import struct
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Final

import torch
import yaml
from demucs.demucs import Demucs
from demucs.hdemucs import HDemucs
from demucs.htdemucs import HTDemucs

from ironclad.engines.host.api import EngineError
from ironclad_engine_demucs.bags import BAGS, FILES, Bag

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

CLASSES: Final[Mapping[str, type[torch.nn.Module]]] = {
    "demucs.htdemucs.HTDemucs": HTDemucs,
    "demucs.hdemucs.HDemucs": HDemucs,
    "demucs.demucs.Demucs": Demucs,
}
"""The classes that a file may name."""

_TYPES: Final = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64,
    "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip
_MAX_HEADER: Final = 8 << 20
_MAX_FILE: Final = 8 << 30
_MAX_PARAMETERS: Final = 2_000_000_000


def refuse(path: Path, reason: str) -> EngineError:
    """The error for a file that is not loaded."""
    return EngineError("model", f"{path.name}: {reason}")


def load_bag(folder: Path, model: str) -> tuple[list[torch.nn.Module], Bag]:
    """The networks of a model, ready, in the bag's order, and the bag. Raises `EngineError` (model).

    The bag is that of `NAME.yaml` in the folder, else the published one of this name, else the only network there.
    """
    bag = read_bag(folder, model)
    networks = [load_network(_file_of(folder, signature)) for signature in bag.signatures]
    first = networks[0]
    for network in networks:
        alike = ("sources", "samplerate", "audio_channels")
        if any(getattr(network, name) != getattr(first, name) for name in alike):
            raise EngineError("model", f"the networks of {model} do not belong together")
        longest = float(network.segment) if isinstance(network, HTDemucs) else math.inf
        if bag.segment is not None and bag.segment <= longest:
            network.segment = bag.segment
        network.eval()
    if bag.weights is not None and any(len(row) != len(first.sources) for row in bag.weights):
        raise EngineError("model", f"{model} has not one weight a stem")
    return networks, bag


def read_bag(folder: Path, model: str) -> Bag:
    """What the model consists of. Raises `EngineError` (model)."""
    lists = sorted(folder.glob("*.yaml"))
    named = folder / f"{model}.yaml"
    if named in lists or len(lists) == 1:
        return _parse_bag(named if named in lists else lists[0])
    if model in BAGS:
        return BAGS[model]
    files = [path for path in sorted(folder.iterdir()) if path.suffix in {".th", ".safetensors"}]
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


def _file_of(folder: Path, signature: str) -> Path:
    found = [
        path
        for path in sorted(folder.iterdir())
        if path.suffix in {".safetensors", ".th"} and path.stem.partition("-")[0] == signature
    ]
    if not found:
        raise EngineError("model", f"there is no file for network {signature}")
    return found[0]  # safetensors sorts before th where a network has both under one name


def load_network(path: Path) -> torch.nn.Module:
    """One network. Raises `EngineError` (model) for a file that is damaged or asks for more than it may."""
    name, args, kwargs, state = _read_safetensors(path) if path.suffix == ".safetensors" else _read_pickle(path)
    made = CLASSES.get(name)
    if made is None:
        raise refuse(path, f"it names the class {name!r}, which is none of Demucs' networks")
    if isinstance(state, dict) and state.get("__quantized"):
        raise refuse(path, "quantized weights (diffq) are not supported")
    try:
        network = made(*args, **kwargs)
        network.load_state_dict(state)
    except (TypeError, ValueError, RuntimeError, AttributeError, AssertionError) as exc:
        raise refuse(path, f"it does not make a {made.__name__}: {str(exc)[:300]}") from exc
    return network.eval()


def _read_pickle(path: Path) -> tuple[str, list[Any], dict[str, Any], Any]:
    try:
        with torch.serialization.safe_globals([*CLASSES.values(), Fraction]):
            package = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as exc:
        if not published(path):
            raise refuse(path, f"its pickle asks for more than weights ({str(exc).splitlines()[0][:200]})") from exc
        package = torch.load(path, map_location="cpu", weights_only=False)  # one of Demucs' own, byte for byte
    except Exception as exc:  # whatever bytes that are no pickle make the reader raise
        raise refuse(path, f"damaged ({str(exc)[:200]})") from exc
    try:
        made = package["klass"]
        return (
            f"{made.__module__}.{made.__qualname__}",
            list(package["args"]),
            dict(package["kwargs"]),
            package["state"],
        )
    except (TypeError, KeyError, AttributeError) as exc:
        raise refuse(path, "not one of Demucs' packages") from exc


def published(path: Path) -> bool:
    """Whether a file is, byte for byte, one that is published with Demucs."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return digest in {known.sha256 for known in FILES}


def _read_safetensors(path: Path) -> tuple[str, list[Any], dict[str, Any], dict[str, torch.Tensor]]:
    """The format: 8 bytes header length, a JSON header with types, shapes and offsets, then the bytes."""
    size = path.stat().st_size
    if size > _MAX_FILE:
        raise refuse(path, "larger than a network can be")
    with path.open("rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0  # noqa: PLR2004  # the format's
        if not len(b"{}") <= length <= min(_MAX_HEADER, size):
            raise refuse(path, "not a safetensors file")
        try:
            header = json.loads(file.read(length))
            metadata = header.pop("__metadata__")
            args, kwargs = _decode(json.loads(metadata["args"])), _decode(json.loads(metadata["kwargs"]))
            name = metadata["klass"]
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError, ZeroDivisionError) as exc:
            raise refuse(path, "its header is not that of a network") from exc
        if not isinstance(name, str) or not isinstance(args, list) or not isinstance(kwargs, dict):
            raise refuse(path, "its header is not that of a network")
        if "structure" in metadata:
            raise refuse(path, "quantized weights (diffq) are not supported")
        data = bytearray(file.read())
    return name, args, kwargs, {key: _tensor(path, key, entry, data) for key, entry in header.items()}


def _tensor(path: Path, key: str, entry: Any, data: bytearray) -> torch.Tensor:
    try:
        kind, shape = _TYPES[entry["dtype"]], [int(number) for number in entry["shape"]]
        begin, end = (int(number) for number in entry["data_offsets"])
    except (KeyError, TypeError, ValueError) as exc:
        raise refuse(path, f"tensor {key!r} is not described") from exc
    count = math.prod(shape)
    if min([*shape, 0]) < 0 or count > _MAX_PARAMETERS or not 0 <= begin <= end <= len(data):
        raise refuse(path, f"tensor {key!r} lies outside the file")
    if end - begin != count * kind.itemsize:
        raise refuse(path, f"tensor {key!r} has not the size of its shape")
    if not count:
        return torch.zeros(shape, dtype=kind)
    if begin % kind.itemsize:  # the format aligns them; copy what does not
        return torch.frombuffer(data[begin:end], dtype=kind).reshape(shape)
    return torch.frombuffer(data, dtype=kind, count=count, offset=begin).reshape(shape)


def _decode(value: Any) -> Any:
    """Plain data, with Demucs' way of writing fractions in JSON."""
    if isinstance(value, dict):
        if value.get("_type") == "fraction":
            return Fraction(int(value["numerator"]), int(value["denominator"]))
        return {str(key): _decode(item) for key, item in value.items()}
    return [_decode(item) for item in value] if isinstance(value, list) else value
