"""Checks a library against its receipts: is every file still there, and still the bytes that were published?"""

from __future__ import annotations

import enum
import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ironclad import durable
from ironclad.errors import BadRequest, IroncladError, NotFound
from ironclad.library.receipt import SUFFIX, Receipt

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

_MAX_RECEIPT = 1 << 20
_SUBSET = re.compile(r"([1-9]\d{0,3})/([1-9]\d{0,3})", re.ASCII)


class Verdict(enum.StrEnum):
    """What became of one published file."""

    OK = "ok"
    MISSING = "missing"
    """The receipt is there, the file is not."""
    CHANGED = "changed"
    """Other bytes than were published: retagged by somebody, or damaged."""
    DAMAGED = "damaged"
    """It no longer decodes to what was published."""
    UNREADABLE = "unreadable"
    """The file or its receipt cannot be read."""

    @property
    def good(self) -> bool:
        """Whether nothing is wrong."""
        return self is Verdict.OK


@dataclass(frozen=True, slots=True)
class Check:
    """The verdict on one file."""

    path: Path
    verdict: Verdict
    detail: str = ""
    receipt: Receipt | None = None


@dataclass(frozen=True, slots=True)
class Subset:
    """A part of a library: with 1/7 to 7/7 on seven days, everything is checked once a week."""

    part: int
    of: int

    @classmethod
    def parse(cls, text: str) -> Subset:
        """`1/7`. Raises `BadRequest` for anything else."""
        match = _SUBSET.fullmatch(text)
        if not match or int(match[1]) > int(match[2]):
            raise BadRequest(f"a subset is written 1/7, not {text!r}")
        return cls(int(match[1]), int(match[2]))

    def holds(self, name: str) -> bool:
        """Whether a file belongs to this part: by its name alone, whatever other files come and go."""
        number = int.from_bytes(hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()[:8], "big")
        return number % self.of == self.part - 1


def receipts(root: Path, subset: Subset | None = None) -> Iterator[Path]:
    """The receipts below `root` in order of their names (`root` may be one track or one receipt).

    Raises `NotFound` when there is nothing of that name.
    """
    if not root.exists():
        raise NotFound(f"There is no {root}.", path=root)
    if root.is_file():
        yield root if root.name.endswith(SUFFIX) else root.with_name(root.name + SUFFIX)
        return
    for path in sorted(root.rglob(f"*{SUFFIX}")):
        # Not through a link: a library is what lies in it.
        if path.is_file() and (subset is None or subset.holds(path.relative_to(root).as_posix())):
            yield path


def verify(
    paths: Iterable[Path],
    *,
    decode: Callable[[Path, Receipt], str] | None = None,
    check: Callable[[], None] | None = None,
) -> Iterator[Check]:
    """The verdict on the track of each receipt.

    `decode(track, receipt)` may look at the audio too (length, peak): it returns what is wrong, or the empty string.
    `check` is called before each file and may raise.
    """
    for path in paths:
        if check is not None:
            check()
        yield _one(path, decode)


def verify_records(
    records: Iterable[tuple[Path, Receipt]],
    *,
    decode: Callable[[Path, Receipt], str] | None = None,
    check: Callable[[], None] | None = None,
) -> Iterator[Check]:
    """As `verify`, for tracks whose receipts are kept elsewhere (in the database)."""
    for track, receipt in records:
        if check is not None:
            check()
        try:
            yield _track(track, receipt, decode)
        except IroncladError as exc:
            yield Check(track, Verdict.UNREADABLE, str(exc), receipt)


def _one(path: Path, decode: Callable[[Path, Receipt], str] | None) -> Check:
    track = path.with_name(path.name.removesuffix(SUFFIX))
    try:
        if path.stat().st_size > _MAX_RECEIPT:
            return Check(track, Verdict.UNREADABLE, "the receipt is too long to be one")
        receipt = Receipt.from_bytes(path.read_bytes())
    except FileNotFoundError:
        return Check(track, Verdict.UNREADABLE, "there is no receipt")
    except (OSError, ValueError) as exc:
        return Check(track, Verdict.UNREADABLE, f"the receipt cannot be read: {exc}")
    try:
        return _track(track, receipt, decode)
    except IroncladError as exc:
        return Check(track, Verdict.UNREADABLE, str(exc), receipt)


def _track(track: Path, receipt: Receipt, decode: Callable[[Path, Receipt], str] | None) -> Check:
    if not track.exists():
        return Check(track, Verdict.MISSING, "", receipt)
    size = track.stat().st_size
    if size != receipt.bytes:
        return Check(track, Verdict.CHANGED, f"{size} bytes, published with {receipt.bytes}", receipt)
    if durable.digest(track) != receipt.blake3:
        return Check(track, Verdict.CHANGED, "same size, other bytes", receipt)
    wrong = decode(track, receipt) if decode is not None else ""
    return Check(track, Verdict.DAMAGED, wrong, receipt) if wrong else Check(track, Verdict.OK, "", receipt)
