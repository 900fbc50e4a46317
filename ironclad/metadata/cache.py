"""Answers of slow services on disk, misses included, until they expire."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from ironclad import durable

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

DAY = 86_400.0


@dataclass(frozen=True, slots=True)
class Cached:
    """An answer from the cache; None says that the service knew nothing."""

    content: bytes | None


class Cache(Protocol):
    """Keeps answers by key. `FileCache` is one; a database table can be another."""

    def get(self, key: str) -> Cached | None:
        """The answer, or None if there is none or it has expired."""
        ...

    def put(self, key: str, content: bytes | None, *, seconds: float) -> None:
        """Keep an answer (or, as None, that there is none) for so long."""
        ...


class FileCache:
    """One pair of files an answer below `folder`: `ab/abcdef….json` (key, expiry) and `….bin` (content).

    Broken or half-written entries count as missing. Several processes may use one folder.
    """

    def __init__(self, folder: Path, *, clock: Callable[[], float] = time.time) -> None:
        self._folder = folder
        self._clock = clock

    def get(self, key: str) -> Cached | None:
        """The answer, or None if there is none or it has expired."""
        path = self._path(key)
        try:
            note = json.loads(path.read_bytes())
            if note["key"] != key or note["expires"] < self._clock():
                return None
            if note["size"] is None:
                return Cached(None)
            content = path.with_suffix(".bin").read_bytes()
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return Cached(content) if hashlib.sha256(content).hexdigest() == note["sha256"] else None

    def put(self, key: str, content: bytes | None, *, seconds: float) -> None:
        """Keep an answer for so long. Raises catalogue errors when the disk refuses."""
        path = self._path(key)
        durable.make_dirs(path.parent)
        note = {"key": key, "expires": self._clock() + seconds, "size": None}
        if content is not None:
            durable.write_atomic(path.with_suffix(".bin"), content)
            note |= {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        durable.write_atomic(path, json.dumps(note).encode())

    def _path(self, key: str) -> Path:
        name = hashlib.sha256(key.encode()).hexdigest()
        return self._folder / name[:2] / f"{name}.json"
