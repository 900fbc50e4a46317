"""What publishing and retagging ask of the database walks an index, however large the library is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa
from stage_contexts import claimed

from ironclad.ops.library import known
from ironclad.stages import leavings, neighbours

if TYPE_CHECKING:
    from pathlib import Path

    from ironclad.config import Settings
    from ironclad.db.session import Database

FILES = 20_000


@pytest.fixture
def large(database: Database, settings: Settings, tmp_path: Path) -> Database:
    """One job that owns a large library, and as many finished metadata stages."""
    job = claimed(database, settings, tmp_path / "x").job.job_uuid
    with database.session() as session:
        session.execute(
            sa.text(
                "INSERT INTO artifact (artifact_uuid, job_uuid, attempt, kind, path, size, blake3, state, receipt) "
                "SELECT gen_random_uuid(), :job, 1, 'instrumental', format('/out/%s/%s.flac', n / 12, n), 1, 'x', "
                '\'published\', CAST(format(\'{"servers": {"album_key": "album %s"}}\', n / 12) AS jsonb) '
                "FROM generate_series(1, :files) n"
            ),
            {"job": job, "files": FILES},
        )
        session.execute(
            sa.text(
                "INSERT INTO stage_run (job_uuid, attempt, stage, state, data) "
                "SELECT :job, n, 'metadata', 'done', '{\"lookup\": null, \"cover\": \"none\"}' "
                "FROM generate_series(1, :files) n"
            ),
            {"job": job, "files": FILES},
        )
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.text("ANALYZE artifact"))
        connection.execute(sa.text("ANALYZE stage_run"))
    return database


def plan(database: Database, statement: sa.TextClause, values: dict[str, Any]) -> str:
    with database.session() as session:
        rows = session.scalars(sa.text(f"EXPLAIN {statement.text}"), values)
        return "\n".join(rows)


def test_the_linters_neighbours_are_found_by_two_indexes(large: Database) -> None:
    values = {"job": None, "albums": ["album 7"], "folders": ["/out/7"], "most": 1000}
    shown = plan(large, neighbours.NEAR, values | {"job": "00000000-0000-0000-0000-000000000000"})
    assert "artifact_album" in shown
    assert "artifact_folder" in shown
    assert "Seq Scan on artifact" not in shown


def test_jobs_that_wait_for_a_service_are_found_by_their_index(large: Database) -> None:
    shown = plan(large, known.PENDING, {})
    assert "stage_run_pending" in shown
    assert "Seq Scan on stage_run r" not in shown


def test_what_a_job_left_is_found_by_the_jobs_index(large: Database) -> None:
    shown = plan(large, leavings.REPLACED, {"job": "00000000-0000-0000-0000-000000000000", "intended": "x"})
    assert "ix_artifact_job_uuid" in shown
    assert "Seq Scan" not in shown
