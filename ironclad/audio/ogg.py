"""Gives the pages of an Ogg file a fixed serial number, so that the same samples make the same bytes.

libsndfile draws the serial at random. The checksum of a page (RFC 3533, 6: CRC with polynomial 0x04c11db7, initial
value and final XOR zero) is linear, so the checksum of the changed page is the old one XOR that of the difference,
and only headers need to be read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO, Final

from ironclad.errors import OutputInvalid

if TYPE_CHECKING:
    from pathlib import Path

SERIAL: Final = 0x49524F4E
_POLYNOMIAL: Final = 0x04C11DB7
_HEADER = 27
_SERIAL_AT = 14
_CRC_AT = 22
_MASK = 0xFFFFFFFF


def fix_serial(path: Path, serial: int = SERIAL) -> None:
    """Rewrite the serial number and the checksum of every page in place. The file must hold one logical stream."""
    with path.open("r+b") as file:
        at = 0
        while header := file.read(_HEADER):
            if len(header) < _HEADER or header[:4] != b"OggS":
                raise OutputInvalid(f"{path.name} is not a sequence of Ogg pages at byte {at}")
            length = _HEADER + header[26] + sum(file.read(header[26]))
            _rewrite(file, at, length, header, serial)
            at += length
            file.seek(at)


def _rewrite(file: BinaryIO, at: int, length: int, header: bytes, serial: int) -> None:
    old = int.from_bytes(header[_SERIAL_AT : _SERIAL_AT + 4], "little")
    difference = (old ^ serial).to_bytes(4, "little")
    # As polynomials: the four bytes, times x^32 (the CRC's own shift), times x^8 for each byte behind them.
    change = _times(int.from_bytes(difference, "big"), _power(4 + length - _SERIAL_AT - 4))
    crc = int.from_bytes(header[_CRC_AT : _CRC_AT + 4], "little") ^ change
    file.seek(at + _SERIAL_AT)
    file.write(serial.to_bytes(4, "little"))
    file.seek(at + _CRC_AT)
    file.write(crc.to_bytes(4, "little"))


def _times(one: int, other: int) -> int:
    """The product of two polynomials over GF(2), modulo the CRC's."""
    product = 0
    while other:
        if other & 1:
            product ^= one
        one = (one << 1) ^ (_POLYNOMIAL if one >> 31 else 0)
        one &= _MASK
        other >>= 1
    return product


def _power(count: int) -> int:
    """x^(8·count) modulo the CRC's polynomial."""
    result, base = 1, 1 << 8
    while count:
        if count & 1:
            result = _times(result, base)
        base = _times(base, base)
        count >>= 1
    return result
