"""The table of tokens of the control API."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from sqlmodel import Field, SQLModel

from ironclad.db.columns import moment as _time


class ApiToken(SQLModel, table=True):
    """Who may use the control API for what. The secret itself is nowhere."""

    __tablename__ = "api_token"

    id: int | None = Field(default=None, primary_key=True)
    label: str
    user_id: str
    """Whose songs and jobs; the name of a user of jobs."""
    role: str
    digest: bytes
    """SHA-256 of the secret, which has 256 random bits: nothing is to be guessed, so no salt is needed."""
    created_at: datetime | None = _time(nullable=False, default=True)
    expires_at: datetime | None = _time()
    last_used_at: datetime | None = _time()
    """To the minute."""
    revoked_at: datetime | None = _time()

    __table_args__ = (
        sa.Index("api_token_digest", "digest", unique=True),
        sa.CheckConstraint("role IN ('submit', 'read', 'operate')", name="api_token_role"),
    )
