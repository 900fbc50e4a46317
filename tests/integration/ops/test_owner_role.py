"""A server of the operator's: a role that owns its database and is nothing more does everything that Ironclad does.

Its URL, with the password, is a file in the secrets folder and nowhere else, as docs/install.md has it.
"""

from __future__ import annotations

import contextlib
import json
import secrets
from typing import TYPE_CHECKING, Any

import psutil
import psycopg
import pytest
import roles
import sqlalchemy as sa
from command_line import run_command
from installation import Installation

from ironclad.db import schema

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from typer.testing import Result


@pytest.fixture
def password() -> str:
    return f"pw{secrets.token_hex(8)}"


@pytest.fixture
def owner_url(server_url: str, password: str) -> Iterator[str]:
    with roles.owned_database(server_url, password) as url:
        yield url


@pytest.fixture
def own_environment(environment: dict[str, str], owner_url: str, tmp_path: Path) -> dict[str, str | None]:
    """The test's settings, with the URL as a secret."""
    folder = tmp_path / "secrets"
    folder.mkdir(mode=0o750)
    (folder / "database_url").write_text(f"{owner_url}\n", encoding="utf-8")
    return {**environment, "IRONCLAD_DATABASE_URL": None, "IRONCLAD_SECRETS_DIR": str(folder)}


def bad(result: Result) -> list[str]:
    """What `ironclad doctor` says of the database that is wrong; a crowded machine may fail in other things."""
    found: list[dict[str, Any]] = json.loads(result.stdout)["findings"]
    about = ("postgres", "workers", "pool", "all hosts", "prefect", "certificate", "notifier")
    assert {"postgres", "all hosts"} <= {one["name"] for one in found}
    return [one["name"] for one in found if one["status"] == "fail" and one["name"].startswith(about)]


@pytest.mark.timeout(600)
def test_the_owner_of_a_database_needs_no_other_right(
    own_environment: dict[str, str | None], owner_url: str, password: str
) -> None:
    said: list[str] = []

    def run(*words: str, code: int = 0) -> Result:
        done = run_command(own_environment, *words)
        said.append(done.output)
        assert done.exit_code == code, done.output
        return done

    with psycopg.connect(owner_url) as connection:
        rights = "SELECT rolsuper, rolcreaterole, rolcreatedb FROM pg_roles WHERE rolname = current_user"
        assert connection.execute(rights).fetchone() == (False, False, False)

    run("db", "check", code=3)
    assert bad(run("doctor", "--json", code=1)) == ["postgres schema"], "and nothing else that follows from it"
    assert run("upgrade", "check").stdout.startswith(f"ok    migration: from nothing to {schema.HEAD}")
    run("db", "upgrade")
    run("db", "check")
    doctor = run_command(own_environment, "doctor", "--json")
    said.append(doctor.output)
    assert bad(doctor) == []
    run("upgrade", "check")
    run("upgrade", "apply")
    dump = json.loads(run("backup", "create", "--json").stdout)["dump"]
    run("backup", "verify")
    assert json.loads(run("backup", "list", "--json").stdout)["dumps"][0]["proven"]
    run("pause")
    run("backup", "restore", dump, "--yes")
    run("db", "downgrade", "base", "--yes")
    run("backup", "restore", dump, "--yes")
    run("db", "check")
    assert json.loads(run("status", "--json").stdout)["paused"] is False, "the pause came after the dump"
    run("config", "show")
    run("config", "validate")
    assert not [text for text in said if password in text]


@pytest.mark.slow
@pytest.mark.services
@pytest.mark.xdist_group("services")
@pytest.mark.timeout(900)
def test_everything_runs_as_the_owner_of_a_database(
    own_environment: dict[str, str | None],
    owner_url: str,
    password: str,
    make_song: Callable[..., Path],
    tmp_path: Path,
) -> None:
    own = {"IRONCLAD_SECRETS_DIR": own_environment["IRONCLAD_SECRETS_DIR"], "IRONCLAD_PREFECT__DATABASE": "postgresql"}
    with Installation(tmp_path / "data", own) as up:
        assert not up.layout.postgres.exists() or not any(up.layout.postgres.iterdir()), "no embedded server"
        up.drop(make_song(tmp_path / "blue.flac", 2.0), user="ana")
        assert up.settled(1, 300) == {"succeeded": 1}
        assert up.ironclad("backup", "create").returncode == 0
        words = []
        for process in up.processes():
            with contextlib.suppress(psutil.Error):  # it has ended meanwhile
                words += process.cmdline()
    assert len(up.published()) == 1
    assert words
    assert not [word for word in words if password in word]
    ours = sa.make_url(owner_url)
    beside = ours.set(database=f"{ours.database}_prefect").render_as_string(hide_password=False)
    with psycopg.connect(beside) as connection:
        (runs,) = connection.execute("SELECT count(*) FROM flow_run").fetchone() or (0,)
    assert runs >= 1
    for log in up.layout.logs.rglob("*"):
        assert not log.is_file() or password.encode() not in log.read_bytes(), log
