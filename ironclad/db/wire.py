"""Connections to PostgreSQL by its driver: our own, and those that SQLAlchemy keeps."""

from __future__ import annotations

from typing import Any

import psycopg


def connect(conninfo: str = "", **settings: Any) -> psycopg.Connection[Any]:
    """As `psycopg.connect`. Raises `psycopg.OperationalError` also where there is no descriptor left to wait with.

    The driver lets that through as an OSError, and who tries again when the database is away knows only its errors.
    """
    try:
        return psycopg.connect(conninfo, **settings)
    except OSError as exc:
        raise psycopg.OperationalError(f"no connection can be opened: {exc}") from exc
