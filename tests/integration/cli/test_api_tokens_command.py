from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING

from ironclad.access import tokens
from ironclad.access.roles import Role

if TYPE_CHECKING:
    from typer.testing import Result

    from ironclad.db.session import Database

Run = Callable[..., "Result"]


def test_make_use_list_and_revoke(run: Run, database: Database) -> None:
    made = run("api", "tokens", "create", "--user", "ana", "--role", "submit", "--label", "kitchen", "--expires", "90d")
    assert made.exit_code == 0, made.output
    secret = made.stdout.strip()  # nothing else is on standard output: TOKEN=$(ironclad api tokens create …)
    with database.session() as session:
        bearer = tokens.authenticate(session, secret)
    assert (bearer.user_id, bearer.role, bearer.label) == ("ana", Role.SUBMIT, "kitchen")

    listed = run("api", "tokens", "list")
    assert "kitchen" in listed.stdout
    assert "in 90 d" in listed.stdout or "in 89 d" in listed.stdout
    assert secret not in listed.output
    (token,) = json.loads(run("api", "tokens", "list", "--json").stdout)["tokens"]
    assert token["last_used_at"]

    assert "is void" in run("api", "tokens", "revoke", token["id"]).stdout
    assert "There is no token." in run("api", "tokens", "list").stdout
    assert json.loads(run("api", "tokens", "list", "--all", "--json").stdout)["tokens"][0]["revoked_at"]


def test_json_has_the_secret_once(run: Run) -> None:
    data = json.loads(run("api", "tokens", "create", "--user", "bo", "--role", "operate", "--json").stdout)
    assert data["token"].startswith("icl_")
    assert data["expires_at"] is None
    assert "token" not in json.loads(run("api", "tokens", "revoke", data["id"], "--json").stdout)


def test_what_cannot_be_is_refused(run: Run) -> None:
    create = ("api", "tokens", "create", "--user", "ana", "--role")
    assert run(*create, "admin").exit_code == 2
    assert run(*create, "read", "--expires", "2001-01-01").exit_code == 2
    assert run("api", "tokens", "create", "--user", "../x", "--role", "read").exit_code == 2
    assert run("api", "tokens", "revoke", 77).exit_code == 5
