"""What columns of all tables are made of."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field

NOW = sa.text("ironclad_now()")
UTC = sa.DateTime(timezone=True)


def moment(*, nullable: bool = True, default: bool = False, index: bool = False) -> Any:
    """A time with its zone; `default` is the database's clock."""
    return Field(
        default=None,
        nullable=nullable,
        sa_type=UTC,
        index=index,
        sa_column_kwargs={"server_default": NOW} if default else {},
    )


def document(default: str | None = "{}") -> Any:
    """JSON, with the default as it stands in SQL; None allows null."""
    return Field(
        default=None,
        sa_type=JSONB(none_as_null=True),
        nullable=default is None,
        sa_column_kwargs={} if default is None else {"server_default": sa.text(f"'{default}'::jsonb")},
    )
