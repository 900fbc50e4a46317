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
from demucs.demucs import Demucs
from demucs.hdemucs import HDemucs
from demucs.htdemucs import HTDemucs

from ironclad_engine_demucs.bags import FILES
from ironclad_engine_demucs.folders import check_together, file_of, read_bag, refuse

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from ironclad_engine_demucs.bags import Bag

CLASSES: Final[Mapping[str, type[torch.nn.Module]]] = {
    "demucs.htdemucs.HTDemucs": HTDemucs,
    "demucs.hdemucs.HDemucs": HDemucs,
    "demucs.demucs.Demucs": Demucs,
}
"""The classes that a file may name."""

WEIGHTS: Final = (".safetensors", ".th")
"""The forms, the better one first."""

_TYPES: Final = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64,
    "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip
_MAX_HEADER: Final = 8 << 20
_MAX_FILE: Final = 8 << 30
_MAX_PARAMETERS: Final = 2_000_000_000


def load_bag(folder: Path, model: str) -> tuple[list[torch.nn.Module], Bag]:
    """The networks of a model, ready, in the bag's order, and the bag. Raises `EngineError` (model).

    The bag is that of `NAME.yaml` in the folder, else the published one of this name, else the only network there.
    """
    bag = read_bag(folder, model, WEIGHTS)
    networks = [load_network(file_of(folder, signature, WEIGHTS)) for signature in bag.signatures]
    check_together(networks, bag, model)
    for network in networks:
        longest = float(network.segment) if isinstance(network, HTDemucs) else math.inf
        if bag.segment is not None and bag.segment <= longest:
            network.segment = bag.segment
        network.eval()
    return networks, bag


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
