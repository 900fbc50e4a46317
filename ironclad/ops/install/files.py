"""Writing an installation's files without losing what an operator changed."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from ironclad import durable
from ironclad.errors import BadRequest

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

_SEAL: Final = "# ironclad-seal: "
_MODE: Final = 0o644


class Outcome(StrEnum):
    """What becomes of a file."""

    CREATED = "created"
    CHANGED = "changed"
    UNCHANGED = "unchanged"
    REMOVED = "removed"
    EDITED = "edited"
    """Somebody changed it, so it was not written."""


@dataclass(frozen=True, slots=True)
class Planned:
    """One file and what writing would do, or did."""

    path: Path
    outcome: Outcome
    text: str = ""


def sealed(text: str) -> str:
    """The text with a last line that tells later whether somebody changed it."""
    return f"{text}{_SEAL}{hashlib.sha256(text.encode()).hexdigest()}\n"


def is_untouched(text: str) -> bool:
    """Whether a file is as it was written here."""
    body, seal, _ = text.rpartition(_SEAL)
    return bool(seal) and sealed(body) == text


def plan(
    root: Path, files: Mapping[Path, str], former: Collection[str] = (), once: Mapping[Path, str] | None = None
) -> list[Planned]:
    """What writing would do.

    Args:
        root: stands for `/`.
        files: their texts, by path below the root.
        former: glob patterns below the root of files of ours that go when they are no longer among `files`. Those that
            somebody changed or made himself (drop-ins) stay.
        once: files that are the operator's from the moment they are there.
    """
    planned = [_one(root / path, sealed(text)) for path, text in sorted(files.items())]
    for path, text in sorted((once or {}).items()):
        there = (root / path).exists()
        planned.append(Planned(root / path, Outcome.UNCHANGED if there else Outcome.CREATED, text))
    kept = {one.path for one in planned}
    for pattern in former:
        gone = (path for path in sorted(root.glob(pattern)) if path not in kept and path.is_file())
        planned += [Planned(path, Outcome.REMOVED) for path in gone if is_untouched(_read(path))]
    return planned


def write(planned: Collection[Planned], *, force: bool = False) -> list[Planned]:
    """Carry a plan out, all or (when a file was edited) nothing. Returns what was done.

    Args:
        planned: what `plan` said.
        force: write also over files that somebody changed; they are kept beside as `NAME.old`.

    Raises `BadRequest` with the names of the files that somebody changed, `StorageError`.
    """
    edited = [str(one.path) for one in planned if one.outcome is Outcome.EDITED]
    if edited and not force:
        raise BadRequest(
            f"Changed by somebody, so nothing was written: {', '.join(edited)}. Move the changes to drop-ins, then "
            "give --force, which keeps each file as NAME.old."
        )
    done = []
    for one in planned:
        match one.outcome:
            case Outcome.UNCHANGED:
                pass
            case Outcome.REMOVED:
                durable.remove(one.path, reason="no longer part of the installation")
            case Outcome.EDITED:
                with durable.stored(one.path):
                    found = one.path.read_bytes()
                # Another process may have kept and replaced it since the plan was made: what is ours is no `.old`.
                if not is_untouched(found.decode("utf-8", "replace")):
                    durable.write_atomic(one.path.with_name(f"{one.path.name}.old"), found)
                _put(one)
            case _:
                _put(one)
        done.append(Planned(one.path, Outcome.CHANGED if one.outcome is Outcome.EDITED else one.outcome, one.text))
    return done


def _one(path: Path, text: str) -> Planned:
    if not path.exists():
        return Planned(path, Outcome.CREATED, text)
    found = _read(path)
    if found == text:
        return Planned(path, Outcome.UNCHANGED, text)
    return Planned(path, Outcome.CHANGED if is_untouched(found) else Outcome.EDITED, text)


def _read(path: Path) -> str:
    with durable.stored(path):
        return path.read_text(encoding="utf-8", errors="replace")


def _put(one: Planned) -> None:
    durable.make_dirs(one.path.parent)
    durable.write_atomic(one.path, one.text.encode())
    with durable.stored(one.path):
        one.path.chmod(_MODE)
