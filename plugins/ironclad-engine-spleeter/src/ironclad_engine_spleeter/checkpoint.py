"""Reading a TensorFlow checkpoint without TensorFlow: the variables of a V2 bundle as arrays.

A bundle is an index (`NAME.index`) and data (`NAME.data-00000-of-00001`). The index is a sorted table as LevelDB has
them: blocks of key-value pairs whose keys share prefixes, and a footer that says where the block of blocks is. Each
value is a protocol buffer with type, shape, offset and size (tensorflow/core/protobuf/tensor_bundle.proto). Nothing in
it is run; every offset is checked. Standard library and NumPy only.
"""

from __future__ import annotations

import io
import math
import struct
import tarfile
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ironclad.engines.host.api import EngineError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    Arrays = dict[str, NDArray[np.float32]]

INDEX: Final = ".index"
DATA: Final = ".data-00000-of-00001"
_MAGIC: Final = 0xDB4775248B80FB57
_FOOTER: Final = 48
_FLOAT: Final = 1
_MAX_BYTES: Final = 2 << 30
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


class _Damaged(ValueError):
    """What is read is no bundle."""


def read_folder(folder: Path) -> Arrays:
    """The float32 variables of the one checkpoint in a folder, as files or in a `.tar.gz` as published.

    Raises `EngineError` (model).
    """
    archives = sorted(folder.glob("*.tar.gz"))
    try:
        if archives:
            with tarfile.open(archives[0]) as tar:
                files = {
                    member.name.rpartition("/")[2]: tar.extractfile(member)
                    for member in tar
                    if member.isfile() and member.name.endswith((INDEX, DATA)) and member.size <= _MAX_BYTES
                }
                contents = {name: file.read() for name, file in files.items() if file is not None}
        else:
            paths = [path for path in folder.iterdir() if path.name.endswith((INDEX, DATA))]
            contents = {path.name: path.read_bytes() for path in paths if path.stat().st_size <= _MAX_BYTES}
        index = [name for name in contents if name.endswith(INDEX) and not name.startswith(".")]
        if len(index) != 1 or index[0].removesuffix(INDEX) + DATA not in contents:
            raise _Damaged(f"there are {len(index)} checkpoints in {folder.name}")
        return read(contents[index[0]], contents[index[0].removesuffix(INDEX) + DATA])
    except (OSError, tarfile.TarError, EOFError, struct.error, IndexError, ValueError) as exc:
        raise EngineError("model", f"not a checkpoint of TensorFlow: {exc}") from exc


def read(index: bytes, data: bytes) -> Arrays:
    """The float32 variables of a bundle. Raises ValueError, IndexError or struct.error for what is none."""
    variables: Arrays = {}
    for key, value in _table(index):
        if not key:
            continue  # the header of the bundle
        entry = dict(_fields(value))
        if entry.get(1) != _FLOAT:
            continue  # the step counter
        shape = tuple(
            _signed(dict(_fields(dimension)).get(1, 0))
            for number, dimension in _fields(entry.get(2, b""))
            if number == 2  # noqa: PLR2004  # TensorShapeProto.dim
        )
        offset, size, count = entry.get(4, 0), entry.get(5, 0), math.prod(shape)
        if entry.get(3, 0) or min(shape, default=0) < 0 or size != 4 * count or offset + size > len(data):
            raise _Damaged(f"variable {key!r} lies outside the data")
        variables[key.decode()] = np.frombuffer(data, "<f4", count, offset).reshape(shape)
    return variables


def _table(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Every pair of a table."""
    if len(data) < _FOOTER or struct.unpack_from("<Q", data, len(data) - 8)[0] != _MAGIC:
        raise _Damaged("its index has no footer")
    reader = _Reader(data[-_FOOTER:])
    reader.varint(), reader.varint()  # where the block of filters is: there is none
    for _key, handle in _block(data, reader.varint(), reader.varint()):
        place = _Reader(handle)
        yield from _block(data, place.varint(), place.varint())


def _block(data: bytes, offset: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    """The pairs of a block: each key says how much of the one before it goes on with."""
    if offset + size + 1 > len(data):
        raise _Damaged("a block lies outside the index")
    if data[offset + size]:
        raise _Damaged("its index is compressed")  # TensorFlow never writes one
    block = data[offset : offset + size]
    restarts = struct.unpack_from("<I", block, size - 4)[0]
    reader, key = _Reader(block[: size - 4 * (restarts + 1)]), b""
    while not reader.done:
        shared, rest, length = reader.varint(), reader.varint(), reader.varint()
        key = key[:shared] + reader.take(rest)
        yield key, reader.take(length)


def _fields(message: bytes) -> Iterator[tuple[int, Any]]:
    """Number and value of each field of a protocol buffer."""
    reader = _Reader(message)
    while not reader.done:
        tag = reader.varint()
        kind = tag & 7
        if kind == _VARINT:
            yield tag >> 3, reader.varint()
        elif kind == _BYTES:
            yield tag >> 3, reader.take(reader.varint())
        elif kind in {_FIXED32, _FIXED64}:
            yield tag >> 3, reader.take(4 if kind == _FIXED32 else 8)
        else:
            raise _Damaged(f"a field of kind {kind}")


def _signed(number: int) -> int:
    return number - (1 << 64) if number >> 63 else number


class _Reader(io.BytesIO):
    """Bytes, read from the start."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self._size = len(data)

    @property
    def done(self) -> bool:
        return self.tell() >= self._size

    def take(self, count: int) -> bytes:
        taken = self.read(count)
        if len(taken) != count:
            raise _Damaged("it ends too early")
        return taken

    def varint(self) -> int:
        value = shift = 0
        while True:
            byte = self.take(1)[0]
            value |= (byte & 127) << shift
            shift += 7
            if not byte & 128:
                return value
            if shift > 63:  # noqa: PLR2004  # ten bytes at most
                raise _Damaged("a number without an end")
