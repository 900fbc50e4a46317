"""What every phase of an experiment works on: settings, a database, the folders, and one song's bytes."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from ironclad.config import Settings
from ironclad.db.session import Database

SONG = b"".join(b"every sample of it %06d\n" % n for n in range(600))
"""The source. No stage of the laboratory decodes it; its bytes are what must not be lost."""
IDLE = 1.0
"""Seconds after which the server ends the transaction of a process that was stopped in it."""
STRANGER = b"a file that somebody else put there"


@cache
def opened(url: str, clock_offset: str = "", idle_seconds: float = 60.0) -> Database:
    """One object for each: what SQLAlchemy has learned of a server and compiled for it outlives a fork."""
    return Database(url, clock_offset=clock_offset, idle_seconds=idle_seconds)


@dataclass
class World:
    """One installation of one experiment.

    Args:
        root: the data folder.
        outside: a folder that may be on another file system.
        url: the database; its tables are empty at the beginning.
        mutant: the name of a seeded bug, or empty.
        clock_offset: added to the database's clock.
        real: the source is a real song.
        will_sleep: this process is going to be stopped, maybe in a transaction.
    """

    root: Path
    outside: Path
    url: str
    mutant: str = ""
    clock_offset: str = ""
    will_sleep: bool = False
    real: bool = False
    state: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def settings(self) -> Settings:
        """Short delays, no floor, everything below `root`."""
        return Settings.model_validate(
            {
                "data_dir": self.root, "database_url": self.url, "disk": {"min_free_bytes": 0},
                "jobs": {"backoff_seconds": 0.01, "lease_seconds": 60.0, "max_failures": 50},
                "ingest": {"stability_seconds": 0.01}, "engine": {"parameters": {}},
            }
        )  # fmt: skip

    @cached_property
    def database(self) -> Database:
        """Connections of this process."""
        return opened(self.url, self.clock_offset, IDLE if self.will_sleep else 60.0)

    def later(self, seconds: int = 7200) -> Database:
        """The same database in the future: leases have run out, retries are due."""
        return opened(self.url, f"{seconds} seconds")

    def rows(self, statement: str, **values: Any) -> list[dict[str, Any]]:
        """The rows of a query."""
        with self.database.session() as session:
            result = session.execute(sa.text(statement), values)
            return [dict(row._mapping) for row in result] if result.returns_rows else []  # type: ignore[attr-defined]

    def empty(self) -> None:
        """Begin anew: no rows, no files."""
        for table in ("job", "observation", "pool", "control", "worker"):
            self.rows(f"DELETE FROM {table}")
        for folder in (self.root, self.outside):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)

    def to_json(self) -> str:
        """For the process that acts in this world."""
        return json.dumps(
            {"root": str(self.root), "outside": str(self.outside), "url": self.url, "mutant": self.mutant}
        )

    @classmethod
    def from_data(cls, data: dict[str, str]) -> World:
        """What `to_json` wrote."""
        return cls(Path(data["root"]), Path(data["outside"]), data["url"], data["mutant"])
