"""Roles of the test server that are no superusers, as operators make them, and databases that they own."""

from __future__ import annotations

import contextlib
import secrets
from typing import TYPE_CHECKING

import psycopg
import sqlalchemy as sa
from psycopg import sql

if TYPE_CHECKING:
    from collections.abc import Iterator


def _connect(server_url: str) -> psycopg.Connection[tuple[object, ...]]:
    url = sa.make_url(server_url).set(drivername="postgresql")
    return psycopg.connect(url.render_as_string(hide_password=False), autocommit=True)


@contextlib.contextmanager
def role(server_url: str, password: str, *, member_of: str | None = None) -> Iterator[str]:
    """The name of a role that may log in, is no superuser and may make neither databases nor roles.

    Args:
        server_url: of a superuser.
        password: for it; servers that trust everybody on their socket do not ask for it.
        member_of: a role whose tables it may use like its own.
    """
    name = f"role_{secrets.token_hex(6)}"
    with _connect(server_url) as connection:
        connection.execute(
            sql.SQL("CREATE ROLE {} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE PASSWORD {}").format(
                sql.Identifier(name), sql.Literal(password)
            )
        )
        if member_of is not None:
            connection.execute(sql.SQL("GRANT {} TO {}").format(sql.Identifier(member_of), sql.Identifier(name)))
        try:
            yield name
        finally:
            connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(name)))


@contextlib.contextmanager
def owned_database(server_url: str, password: str) -> Iterator[str]:
    """The URL, with password, of an empty database for the role that owns it; another beside it is for Prefect."""
    with role(server_url, password) as name, _connect(server_url) as connection:
        made = [name, f"{name}_prefect"]
        for database in made:
            connection.execute(
                sql.SQL("CREATE DATABASE {} OWNER {}").format(sql.Identifier(database), sql.Identifier(name))
            )
        try:
            url = sa.make_url(server_url).set(drivername="postgresql", username=name, password=password, database=name)
            yield url.render_as_string(hide_password=False)
        finally:
            for database in made:
                connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(database)))
