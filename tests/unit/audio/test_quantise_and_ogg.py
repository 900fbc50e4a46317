from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ironclad.audio.ogg import SERIAL, fix_serial
from ironclad.audio.quantise import Quantiser
from ironclad.errors import OutputInvalid

if TYPE_CHECKING:
    from pathlib import Path


def test_samples_on_the_grid_are_not_dithered() -> None:
    steps = np.random.default_rng(0).integers(-(2**15), 2**15, (1000, 2))
    assert np.array_equal(Quantiser(16)((steps / 2**15).astype(np.float32)) >> 16, steps)
    fine = np.random.default_rng(0).integers(-(2**23), 2**23, (1000, 2))
    assert np.array_equal(Quantiser(24)((fine / 2**23).astype(np.float32)) >> 8, fine)


def test_dither_makes_the_error_independent_of_the_signal() -> None:
    """A level of a third of a step is kept on average, where rounding alone would lose it."""
    level = np.full((200_000, 1), (100 + 1 / 3) / 2**15, np.float32)
    out = Quantiser(16)(level) >> 16
    assert out.mean() == pytest.approx(100 + 1 / 3, abs=0.01)
    assert {98, 99, 100, 101, 102} >= set(np.unique(out).tolist()) > {100}


def test_the_noise_is_the_same_each_time_and_differs_between_blocks() -> None:
    block = np.full((500, 2), 0.1, np.float32)
    one, other = Quantiser(16), Quantiser(16)
    first = one(block)
    assert np.array_equal(first, other(block))
    assert not np.array_equal(first, one(block))


@pytest.mark.parametrize("bits", [16, 24])
def test_full_scale_is_held(bits: int) -> None:
    out = Quantiser(bits)(np.array([[1.0, -1.0], [5.0, -5.0]], np.float32)) >> (32 - bits)
    top = 2 ** (bits - 1)
    assert out[1].tolist() == [top - 1, -top]
    assert abs(int(out[0, 0]) - (top - 1)) <= 2


def crc_of(page: bytes) -> int:
    crc = 0
    for byte in page:
        crc ^= byte << 24
        for _ in range(8):
            crc = (crc << 1 ^ (0x04C11DB7 if crc & 0x80000000 else 0)) & 0xFFFFFFFF
    return crc


def page_of(serial: int, body: bytes) -> bytes:
    lacing = bytes([255] * (len(body) // 255) + [len(body) % 255])
    page = struct.pack("<4sBBqIIIB", b"OggS", 0, 0, 0, serial, 0, 0, len(lacing)) + lacing + body
    return page[:22] + struct.pack("<I", crc_of(page)) + page[26:]


@given(serial=st.integers(0, 2**32 - 1), bodies=st.lists(st.binary(max_size=1000), min_size=1, max_size=3))
def test_pages_get_the_serial_and_a_right_checksum(
    tmp_path_factory: pytest.TempPathFactory, serial: int, bodies: list[bytes]
) -> None:
    path = tmp_path_factory.mktemp("ogg") / "x.ogg"
    path.write_bytes(b"".join(page_of(serial, body) for body in bodies))
    fix_serial(path)
    assert path.read_bytes() == b"".join(page_of(SERIAL, body) for body in bodies)


@pytest.mark.parametrize(
    "data", [b"fLaC" + bytes(40), page_of(1, b"x") + b"junk behind the page, long enough for a header", b"OggS"]
)
def test_what_is_no_ogg_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "x.ogg"
    path.write_bytes(data)
    with pytest.raises(OutputInvalid):
        fix_serial(path)
