"""Alembic's entry point: migrates the connection that `ironclad.db.schema` hands over."""

from __future__ import annotations

from alembic import context
from sqlmodel import SQLModel

from ironclad.db import tables  # noqa: F401 - fills the metadata

connection = context.config.attributes["connection"]
context.configure(
    connection=connection, target_metadata=SQLModel.metadata, transactional_ddl=True, compare_server_default=False
)
with context.begin_transaction():
    context.run_migrations()
