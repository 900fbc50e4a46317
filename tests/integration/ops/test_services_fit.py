"""A service starts only on tables that fit it, and ends with the code that tells whether starting again helps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

from ironclad.config import load
from ironclad.db import schema
from ironclad.errors import DatabaseUnavailable, SchemaMismatch
from ironclad.ops.service import EXIT_CONFIG, EXIT_TEMPORARY, exit_code
from ironclad.ops.services import registry

if TYPE_CHECKING:
    from ironclad.config import Settings
    from ironclad.db.session import Database


def test_on_the_right_tables_it_is_made(settings: Settings) -> None:
    assert registry.fitting("watch", settings).name == "watch"


def test_on_older_tables_starting_again_is_useless(settings: Settings, database: Database) -> None:
    with database.session() as session:
        session.execute(sa.text("UPDATE alembic_version SET version_num = '0001'"))
    with pytest.raises(SchemaMismatch, match="0001") as caught:
        registry.fitting("dispatch", settings)
    assert exit_code(caught.value) == EXIT_CONFIG


def test_before_there_are_tables_it_is_not(settings: Settings, database: Database) -> None:
    schema.downgrade(database, "base")
    with pytest.raises(DatabaseUnavailable, match="no tables") as caught:
        registry.fitting("worker-cpu", settings)
    assert exit_code(caught.value) == EXIT_TEMPORARY
    assert registry.fitting("prefect", settings).name == "prefect", "that one needs none of ours"


def test_a_database_that_is_away_is_the_services_own_affair() -> None:
    away = {"IRONCLAD_DATA_DIR": "/nonexistent", "IRONCLAD_DATABASE_URL": "postgresql://u@/d?host=/nonexistent"}
    assert registry.fitting("watch", load(environ=away)).name == "watch"
