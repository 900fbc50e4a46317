"""Verifies a library: by the receipts beside the files, and by those in the database for files that have none."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa

from ironclad.audio.decode import decode
from ironclad.errors import IroncladError
from ironclad.library.receipt import Receipt, sidecar
from ironclad.library.verify import Check, Subset, receipts, verify, verify_records
from ironclad.stages.validate import limits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ironclad.config import Settings
    from ironclad.db.session import Database

_PAGE = 500


def check_library(
    root: Path, settings: Settings, database: Database | None, subset: Subset | None = None, *,
    listen: bool = False, check: Callable[[], None] | None = None,
) -> Iterator[Check]:  # fmt: skip
    """The verdict on every published file below `root` (or on the one file).

    Args:
        root: a folder of the library, a track, or a receipt. Raises `BadRequest` if there is nothing of that name.
        settings: the limits of decoding.
        database: whose records count too; without one, only the receipts beside the files do.
        subset: which part to check.
        listen: decode each file as well, and compare its length.
        check: called before each file; may raise.
    """
    decoder = (lambda track, receipt: _length(track, receipt, settings, check)) if listen else None
    yield from verify(receipts(root, subset), decode=decoder, check=check)
    if database is not None and root.is_dir():
        yield from verify_records(_records(database, root, subset), decode=decoder, check=check)


def _records(database: Database, root: Path, subset: Subset | None) -> Iterator[tuple[Path, Receipt]]:
    """Published files below `root` that have no receipt beside them."""
    after = ""
    while True:
        with database.session() as session:
            rows = session.execute(
                sa.text(
                    "SELECT path, blake3, size, receipt FROM artifact WHERE state = 'published' "
                    "AND kind !~ '^(receipt|cover):' AND receipt IS NOT NULL AND lower(path) > :after "
                    "AND starts_with(path, :root) ORDER BY lower(path) LIMIT :page"
                ),
                {"after": after, "root": f"{root}/", "page": _PAGE},
            ).all()
        for row in rows:
            path = Path(row.path)
            wanted = subset is None or subset.holds(sidecar(path).relative_to(root).as_posix())
            if wanted and not sidecar(path).exists():
                yield path, Receipt.from_dict({**row.receipt, "blake3": row.blake3, "bytes": row.size})
        if len(rows) < _PAGE:
            return
        after = rows[-1].path.lower()


def _length(track: Path, receipt: Receipt, settings: Settings, check: Callable[[], None] | None) -> str:
    """What is wrong with the decoded length, or the empty string."""
    try:
        found = decode(track, None, limits(settings.limits), check=check)
    except IroncladError as exc:
        return str(exc)
    expected = (receipt.samples, receipt.sample_rate)
    if (found.frames, found.sample_rate) == expected:
        return ""
    return f"it decodes to {found.frames} samples at {found.sample_rate} Hz, not {expected[0]} at {expected[1]} Hz"
