"""Acoustic fingerprints (Chromaprint) of untrusted files, by the program `fpcalc`, in a sandbox.

The method: Lalinský, "How does Chromaprint work?" (2011), https://oxygene.sk/2011/01/how-does-chromaprint-work/.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ironclad import sandbox
from ironclad.errors import ErrorKind, IroncladError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ironclad.audio.info import AudioLimits

PROGRAM = "fpcalc"
"""Of Debian's package libchromaprint-tools; https://acoustid.org/chromaprint has it for other systems."""
SECONDS = 120
"""How much of a recording is listened to, from its beginning: what AcoustID's own clients send."""
_CPU_SECONDS = 120
_WALL_SECONDS = 180.0
_FILE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What a recording sounds like, or why that is not known."""

    text: str = ""
    """Compressed, in URL-safe base 64, as AcoustID takes it; empty if there is none."""
    problem: str = ""


def program() -> str | None:
    """Where `fpcalc` is; None if it is not installed."""
    return shutil.which(PROGRAM)


def fingerprint(path: Path, limits: AudioLimits, *, check: Callable[[], None] | None = None) -> Fingerprint:
    """Listen to the first two minutes of a file. A file (or a machine) without a fingerprint gives a problem.

    Raises only what is not about the file: a full disk, storage errors, and what `check` raises.
    """
    command = program()
    if command is None:
        return Fingerprint(problem=f"{PROGRAM} is not installed")
    try:
        found = sandbox.run(
            "ironclad.audio.fingerprint_child:main",
            {"path": str(path.absolute()), "limits": limits.to_dict(), "program": command, "seconds": SECONDS},
            sandbox.SandboxLimits(
                cpu_seconds=min(_CPU_SECONDS, limits.decode_seconds),
                wall_seconds=min(_WALL_SECONDS, limits.decode_wall_seconds),
                memory_bytes=limits.decode_memory_bytes,
                file_bytes=_FILE_BYTES,
                processes=None,
            ),
            check=check,
        )
    except IroncladError as exc:
        if exc.kind is ErrorKind.CONTROL or exc.code in {"E_DISK_FULL", "E_STORAGE"}:
            raise
        return Fingerprint(problem=f"{exc.code}: {exc}")
    return Fingerprint(str(found["text"]), str(found["problem"]))
