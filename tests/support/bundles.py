"""Checkpoints as TensorFlow writes them, written here: a V2 bundle of float32 variables."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

_MAGIC = 0xDB4775248B80FB57
_RESTART = 4


def _varint(number: int) -> bytes:
    out = b""
    while number > 127:
        out += bytes([number & 127 | 128])
        number >>= 7
    return out + bytes([number])


def _field(number: int, value: int | bytes) -> bytes:
    if isinstance(value, bytes):
        return _varint(number << 3 | 2) + _varint(len(value)) + value
    return _varint(number << 3) + _varint(value)


def _block(pairs: list[tuple[bytes, bytes]]) -> bytes:
    """Keys share prefixes, but for every fourth one."""
    out, restarts, before = b"", [], b""
    for index, (key, value) in enumerate(pairs):
        shared = 0
        if index % _RESTART:
            while shared < min(len(key), len(before)) and key[shared] == before[shared]:
                shared += 1
        else:
            restarts.append(len(out))
        out += _varint(shared) + _varint(len(key) - shared) + _varint(len(value)) + key[shared:] + value
        before = key
    return out + struct.pack(f"<{len(restarts) + 1}I", *restarts, len(restarts))


def write(folder: Path, variables: Mapping[str, NDArray[np.float32]], *, per_block: int = 7) -> None:
    """`model.index` and `model.data-00000-of-00001` in the folder; the keys in several blocks."""
    data, entries = b"", [(b"", _field(1, 1))]
    for name in sorted(variables):
        values = np.asarray(variables[name], "<f4")
        shape = b"".join(_field(2, _field(1, size)) for size in values.shape)
        entry = _field(1, 1) + _field(2, shape) + _field(4, len(data)) + _field(5, values.nbytes)
        entries.append((name.encode(), entry + _varint(6 << 3 | 5) + b"crc."))
        data += values.tobytes()
    entries.append((b"zz_step", _field(1, 9) + _field(4, len(data)) + _field(5, 8)))
    data += bytes(8)
    table, handles = b"", []
    for start in range(0, len(entries), per_block):
        block = _block(entries[start : start + per_block])
        handles.append(
            (entries[min(start + per_block, len(entries)) - 1][0], _varint(len(table)) + _varint(len(block)))
        )
        table += block + b"\0crc."
    index = _block(handles)
    where = _varint(0) + _varint(0) + _varint(len(table)) + _varint(len(index))
    table += index + b"\0crc." + where.ljust(40, b"\0") + struct.pack("<Q", _MAGIC)
    (folder / "model.index").write_bytes(table)
    (folder / "model.data-00000-of-00001").write_bytes(data)
