"""How a worker hears of the slots that an operator gave its pool: one connection, made anew when it is lost."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import psycopg
import pytest
import sqlalchemy as sa

from ironclad.jobs import pools, slots
from ironclad_flows.worker_service import _Changed

if TYPE_CHECKING:
    from ironclad.config import Settings
    from ironclad.db.session import Database

OURS = sa.text(
    "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'ironclad-slots'"
)


def test_the_number_is_followed_on_one_connection(settings: Settings, database: Database) -> None:
    with database.session() as session:
        pools.declare(session, {"cpu": 2})
    with contextlib.closing(_Changed(settings, "cpu")) as changed:
        assert changed.ask() is None
        with database.session() as session:
            slots.change(session, "cpu", 5, actor="test")
            (pid,) = session.scalars(OURS).all()
        assert changed.ask() == 5
        with database.session() as session:
            assert session.scalars(OURS).all() == [pid]
            slots.change(session, "cpu", None, actor="test")
        assert changed.ask() is None


def test_a_lost_connection_is_made_anew(settings: Settings, database: Database) -> None:
    with contextlib.closing(_Changed(settings, "cpu")) as changed:
        assert changed.ask() is None
        with database.session() as session:
            (pid,) = session.scalars(OURS).all()
            session.execute(sa.text("SELECT pg_terminate_backend(:pid, 10000)"), {"pid": pid})
        with pytest.raises(psycopg.Error):
            changed.ask()
        assert changed.ask() is None
