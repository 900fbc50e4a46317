"""The embedded server's own log: begun anew when it is large, while the server goes on writing."""

from __future__ import annotations

import contextlib
import os
import shutil
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

NAME: Final = "server.log"
MAX_BYTES: Final = 16 << 20
KEEP: Final = 3


def rotate(folder: Path, *, max_bytes: int = MAX_BYTES, keep: int = KEEP) -> bool:
    """Copy the log to `server.log.1` (older ones move on, the oldest goes) and empty it, if it is too large.

    The server holds the file open for appending and cannot be told to open another without PostgreSQL's collector,
    which is a process more; so the file stays and is cut. A line written between copy and cut may be lost. Logs are
    replaceable, so this is no matter for `durable`; one that cannot be rotated is left as it is.
    """
    log = folder / NAME
    with contextlib.suppress(OSError):
        if log.stat().st_size <= max_bytes:
            return False
        names = [folder / f"{NAME}.{number}" for number in range(1, keep + 1)]
        for older, newer in zip(reversed(names[1:]), reversed(names[:-1]), strict=True):
            if newer.exists():
                newer.replace(older)
        shutil.copyfile(log, names[0])
        os.truncate(log, 0)
        return True
    return False
