"""What all workers of an installation share through its database: a rate, answers, and the knowledge of an outage."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import sqlalchemy as sa

from ironclad.metadata.cache import Cached

if TYPE_CHECKING:
    from ironclad.db.session import Database

_EXPIRED_AT_ONCE = 100

# The row's lock makes everybody take a point of his own; a point far ahead (the clock was set back) counts as none.
_RESERVE = sa.text(
    "INSERT INTO service_gate AS gate (name, next_at) VALUES (:name, ironclad_now() + make_interval(secs => :step)) "
    "ON CONFLICT (name) DO UPDATE SET next_at = make_interval(secs => :step) + CASE "
    "WHEN gate.next_at > ironclad_now() + interval '1 hour' THEN ironclad_now() "
    "ELSE greatest(gate.next_at, ironclad_now()) END "
    "RETURNING extract(epoch FROM next_at - make_interval(secs => :step) - clock_timestamp() "
    "- (ironclad_now() - statement_timestamp()))"
)


class DatabaseGate:
    """Points in time for requests, shared by every process of the installation on every machine.

    One row a service. Raises `DatabaseUnavailable` when the database is away: better no request than one too many.
    """

    def __init__(self, database: Database, name: str) -> None:
        self._database = database
        self._name = name

    def reserve(self, interval: float) -> float:
        """Take the next free point in time, `interval` seconds after the one before; returns seconds until then."""
        if interval <= 0:
            return 0.0
        with self._database.session() as session:
            return max(0.0, float(session.scalar(_RESERVE, {"name": self._name, "step": interval}) or 0.0))


class DatabaseCache:
    """Answers in the database, misses included, until they expire; expired ones are swept away bit by bit."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, key: str) -> Cached | None:
        """The answer, or None if there is none or it has expired."""
        with self._database.session() as session:
            row = session.execute(
                sa.text(
                    "SELECT content FROM service_answer WHERE digest = :digest AND key = :key "
                    "AND expires_at > ironclad_now()"
                ),
                {"digest": _digest(key), "key": key},
            ).first()
        return None if row is None else Cached(None if row.content is None else bytes(row.content))

    def put(self, key: str, content: bytes | None, *, seconds: float) -> None:
        """Keep an answer (or, as None, that there is none) for so long."""
        with self._database.session() as session:
            session.execute(
                sa.text(
                    "INSERT INTO service_answer (digest, key, content, expires_at) "
                    "VALUES (:digest, :key, :content, ironclad_now() + make_interval(secs => :seconds)) "
                    "ON CONFLICT (digest) DO UPDATE SET key = EXCLUDED.key, content = EXCLUDED.content, "
                    "expires_at = EXCLUDED.expires_at"
                ),
                {"digest": _digest(key), "key": key, "content": content, "seconds": seconds},
            )
            session.execute(
                sa.text(
                    "DELETE FROM service_answer WHERE digest IN (SELECT digest FROM service_answer "
                    "WHERE expires_at <= ironclad_now() ORDER BY expires_at LIMIT :most FOR UPDATE SKIP LOCKED)"
                ),
                {"most": _EXPIRED_AT_ONCE},
            )


class Outage:
    """That a service did not answer somebody lately, so that a thousand jobs need not find out one by one."""

    def __init__(self, database: Database, name: str) -> None:
        self._database = database
        self._name = f"{name}:outage"

    def lasts(self) -> bool:
        """Whether nobody should ask now."""
        with self._database.session() as session:
            return bool(
                session.scalar(
                    sa.text("SELECT next_at > ironclad_now() FROM service_gate WHERE name = :name"),
                    {"name": self._name},
                )
            )

    def begin(self, seconds: float) -> None:
        """The service did not answer: nobody should ask for so long."""
        with self._database.session() as session:
            session.execute(
                sa.text(
                    "INSERT INTO service_gate (name, next_at) "
                    "VALUES (:name, ironclad_now() + make_interval(secs => :seconds)) "
                    "ON CONFLICT (name) DO UPDATE SET next_at = EXCLUDED.next_at"
                ),
                {"name": self._name, "seconds": seconds},
            )

    def end(self) -> None:
        """It answers."""
        with self._database.session() as session:
            session.execute(sa.text("DELETE FROM service_gate WHERE name = :name"), {"name": self._name})


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()
