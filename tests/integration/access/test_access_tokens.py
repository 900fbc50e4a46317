from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

from ironclad.access import tokens
from ironclad.access.roles import Role
from ironclad.db.session import Database
from ironclad.errors import BadRequest, NotFound, Unauthorised

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlmodel import Session


def made(database: Database, **more: object) -> tuple[int, str]:
    with database.session() as session:
        given = {"user_id": "ana", "role": Role.SUBMIT, "label": "kitchen", **more}
        token, secret = tokens.create(session, **given)  # type: ignore[arg-type]  # a test's helper
        assert token.id is not None
        return token.id, secret


def refused(database: Database, secret: str) -> str:
    with database.session() as session, pytest.raises(Unauthorised) as caught:
        tokens.authenticate(session, secret)
    assert not secret or secret not in str(caught.value.to_dict())
    return str(caught.value.context["reason"])


def test_a_secret_is_random_recognisable_and_kept_nowhere(database: Database) -> None:
    secrets = {made(database)[1] for _ in range(20)}
    assert len(secrets) == 20
    assert all(re.fullmatch(r"icl_[A-Za-z0-9_-]{43}", secret) for secret in secrets)
    with database.session() as session:
        rows = session.execute(sa.text("SELECT t::text, encode(digest, 'escape') FROM api_token t")).all()
    assert len(rows) == 20
    assert not any(secret[8:] in str(row) for secret in secrets for row in rows)


def test_whoever_shows_it_is_its_user_in_its_role(database: Database) -> None:
    number, secret = made(database, role=Role.READ)
    with database.session() as session:
        assert tokens.authenticate(session, secret) == tokens.Bearer(number, "kitchen", "ana", Role.READ)


@pytest.mark.parametrize("change", [lambda s: s[:-1], lambda s: s + "A", lambda s: s[4:], lambda _: "", str.upper])
def test_what_only_looks_like_one_is_not_looked_up(database: Database, change: Callable[[str], str]) -> None:
    secret = made(database)[1]
    assert refused(database, change(secret)) == "malformed"


def test_another_secret_is_unknown(database: Database) -> None:
    secret = made(database)[1]
    other = secret[:-2] + ("AA" if secret[-2:] != "AA" else "BB")
    assert refused(database, other) == "unknown"


def test_a_token_ends_on_its_day(database: Database, database_url: str) -> None:
    secret = made(database, expires_at=datetime.now(UTC) + timedelta(days=1))[1]
    with database.session() as session:
        tokens.authenticate(session, secret)
    later = Database(database_url, clock_offset="2 days")
    try:
        assert refused(later, secret) == "expired"
    finally:
        later.close()


def test_a_revoked_token_is_void_at_once_and_stays_so(database: Database) -> None:
    number, secret = made(database)
    with database.session() as session:
        first = tokens.revoke(session, number).revoked_at
    assert refused(database, secret) == "revoked"
    with database.session() as session:
        assert tokens.revoke(session, number).revoked_at == first
        assert tokens.listed(session) == []
        assert [token.id for token in tokens.listed(session, revoked=True)] == [number]
        with pytest.raises(NotFound):
            tokens.revoke(session, number + 1)


def test_its_last_use_is_written_down_once_a_minute(database: Database, database_url: str) -> None:
    secret = made(database)[1]

    def used(session: Session) -> object:
        tokens.authenticate(session, secret)
        return session.execute(sa.text("SELECT last_used_at, xmin::text FROM api_token")).one()

    with database.session() as session:
        first = used(session)
    with database.session() as session:
        assert used(session) == first
    later = Database(database_url, clock_offset="61 seconds")
    try:
        with later.session() as session:
            assert used(session) != first
    finally:
        later.close()


@pytest.mark.parametrize("user", ["", ".", "..", "a/b", "a\nb", "a\x00b", "\udcff", "ü" * 128])
def test_a_user_is_the_name_of_a_folder(database: Database, user: str) -> None:
    with database.session() as session, pytest.raises(BadRequest):
        tokens.create(session, user_id=user, role=Role.SUBMIT)


def test_a_label_is_a_line(database: Database) -> None:
    for label in ("a\nb", "x" * 101):
        with database.session() as session, pytest.raises(BadRequest):
            tokens.create(session, user_id="ana", role=Role.SUBMIT, label=label)
    assert made(database, user_id="ü ☕", label="")[0]


def test_as_data_it_has_no_digest(database: Database) -> None:
    with database.session() as session:
        data = tokens.as_dict(tokens.create(session, user_id="ana", role=Role.OPERATE)[0])
    assert data["user"] == "ana"
    assert data["label"] == data["role"] == "operate"
    assert set(data) == {"id", "label", "user", "role", "created_at", "expires_at", "last_used_at", "revoked_at"}
