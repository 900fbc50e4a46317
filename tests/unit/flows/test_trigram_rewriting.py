"""Prefect's own migrations, as they must be sent to a server without `pg_trgm`."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

from ironclad_flows.database import without_trigrams


def migrations() -> list[Path]:
    spec = importlib.util.find_spec("prefect")
    assert spec is not None
    assert spec.origin is not None
    return sorted(
        (Path(spec.origin).parent / "server" / "database" / "_migrations" / "versions" / "postgresql").glob("*.py")
    )


def statements() -> list[str]:
    """Every SQL text in the migrations that speaks of the extension."""
    found = []
    for path in migrations():
        for text in re.findall(r'"""(.*?)"""|"([^"\n]*)"', path.read_text(encoding="utf-8"), re.DOTALL):
            sql = "".join(text)
            if re.search(r"\b(create|drop)\b", sql, re.IGNORECASE) and re.search("gin_trgm_ops|pg_trgm", sql):
                found.append(sql)
    return found


def test_prefects_migrations_still_ask_for_the_extension() -> None:
    assert len(migrations()) > 50
    assert len(statements()) > 5, "if this fails, the rewriting may be unnecessary by now"


@pytest.mark.parametrize("statement", statements())
def test_no_statement_needs_it_afterwards(statement: str) -> None:
    rewritten = without_trigrams(statement)
    assert "trgm_ops" not in rewritten
    assert "pg_trgm" not in rewritten
    for name in re.findall(r"\btrgm_ix_\w+", statement):
        assert name in rewritten, "indexes keep their names, so that later migrations find them"


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("CREATE EXTENSION IF NOT EXISTS pg_trgm;", "SELECT 1"),
        ("DROP EXTENSION IF EXISTS pg_trgm;", "SELECT 1"),
        ("CREATE INDEX a ON flow USING gin (name gin_trgm_ops);", "CREATE INDEX a ON flow USING btree (name);"),
        ("CREATE INDEX b ON events USING gin (related_resource_ids)", None),
        ("CREATE EXTENSION IF NOT EXISTS pgcrypto", None),
        ("SELECT name FROM flow WHERE name ILIKE 'pg_trgm%'", None),
    ],
)
def test_only_what_needs_it_changes(statement: str, expected: str | None) -> None:
    assert without_trigrams(statement) == (statement if expected is None else expected)
