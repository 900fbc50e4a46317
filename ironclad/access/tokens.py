"""Tokens: made once, shown once, found by digest, revoked for good."""

from __future__ import annotations

import hashlib
import re
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa
from sqlmodel import col, select

from ironclad.access.roles import EVERYBODY, RIGHTS, Right, Role
from ironclad.db.access_tables import ApiToken
from ironclad.errors import BadRequest, NotFound, Unauthorised

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlmodel import Session

PREFIX: Final = "icl_"
"""Begins every secret, so that logs, bundles and scanners for leaked secrets know one when they see it."""
_BYTES: Final = 32
_SECRET: Final = re.compile(rf"{PREFIX}[A-Za-z0-9_-]{{43}}")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_NAME_BYTES: Final = 255
_LABEL_LENGTH: Final = 100


@dataclass(frozen=True, slots=True)
class Bearer:
    """Whoever showed a valid token."""

    token_id: int
    label: str
    user_id: str
    role: Role

    def may(self, right: Right) -> bool:
        """Whether the role has the right."""
        return right in RIGHTS[self.role]

    def sees(self, user_id: str) -> bool:
        """Whether jobs of that user are there for this token at all."""
        return self.role in EVERYBODY or user_id == self.user_id

    @property
    def everybody(self) -> bool:
        """Whether it sees every user's jobs."""
        return self.role in EVERYBODY

    @property
    def actor(self) -> str:
        """Who did it, in the events of jobs."""
        return f"api:{self.user_id}/{self.label}"


def create(
    session: Session, *, user_id: str, role: Role, label: str = "", expires_at: datetime | None = None
) -> tuple[ApiToken, str]:
    """A new token and its secret, which is nowhere else: whoever loses it makes another.

    Raises `BadRequest` for a name that cannot be a user's folder, or a label that no line holds.
    """
    if (
        not user_id
        or user_id in {".", ".."}
        or "/" in user_id
        or _CONTROL.search(user_id)
        or (len(user_id.encode()) > _NAME_BYTES)
    ):
        raise BadRequest(f"{user_id!r} cannot be the name of a user: it is that of a folder.")
    if len(label) > _LABEL_LENGTH or _CONTROL.search(label):
        raise BadRequest(f"A label is one line of at most {_LABEL_LENGTH} characters.")
    secret = PREFIX + secrets.token_urlsafe(_BYTES)
    token = ApiToken(
        label=label or role.value, user_id=user_id, role=role.value, digest=_digest(secret), expires_at=expires_at
    )
    session.add(token)
    session.flush()
    session.refresh(token)
    return token, secret


def listed(session: Session, *, revoked: bool = False) -> Sequence[ApiToken]:
    """Every token, oldest first; those that were revoked only if asked for."""
    statement = select(ApiToken).order_by(col(ApiToken.id))
    if not revoked:
        statement = statement.where(col(ApiToken.revoked_at).is_(None))
    return session.exec(statement).all()


def revoke(session: Session, token_id: int) -> ApiToken:
    """Make a token void from this moment on; doing so twice is fine. Raises `NotFound`."""
    session.execute(
        sa.text("UPDATE api_token SET revoked_at = coalesce(revoked_at, ironclad_now()) WHERE id = :id"),
        {"id": token_id},
    )
    token = session.get(ApiToken, token_id, populate_existing=True)
    if token is None:
        raise NotFound(f"There is no token {token_id}.")
    return token


_FIND: Final = sa.text(
    "SELECT id, label, user_id, role, revoked_at IS NOT NULL AS revoked, "
    "coalesce(expires_at <= ironclad_now(), false) AS expired, "
    "coalesce(last_used_at < ironclad_now() - interval '1 minute', true) AS stale "
    "FROM api_token WHERE digest = :digest"
)
_VALID: Final = sa.text(
    "SELECT revoked_at IS NULL AND coalesce(expires_at > ironclad_now(), true) FROM api_token WHERE id = :id"
)
_USED: Final = sa.text(
    "UPDATE api_token SET last_used_at = ironclad_now() WHERE id = :id "
    "AND coalesce(last_used_at < ironclad_now() - interval '1 minute', true)"
)


def authenticate(session: Session, secret: str | None) -> Bearer:
    """Whose secret it is. Found by its digest in an index, so how long it takes tells nothing about other secrets.

    Raises `Unauthorised`, whose context has the `reason` (missing, malformed, unknown, expired, revoked) and never the
    secret.
    """
    if secret is None:
        raise Unauthorised("It carries none.", reason="missing")
    if _SECRET.fullmatch(secret) is None:
        raise Unauthorised("It is none of Ironclad's.", reason="malformed")
    row = session.execute(_FIND, {"digest": _digest(secret)}).first()
    if row is None:
        raise Unauthorised("It is not known here.", reason="unknown")
    if row.revoked:
        raise Unauthorised("It was revoked.", reason="revoked", label=row.label)
    if row.expired:
        raise Unauthorised("It has expired.", reason="expired", label=row.label)
    if row.stale:
        session.execute(_USED, {"id": row.id})
    return Bearer(row.id, row.label, row.user_id, Role(row.role))


def is_valid(session: Session, token_id: int) -> bool:
    """Whether a token that was valid still is."""
    return bool(session.scalar(_VALID, {"id": token_id}))


def as_dict(token: ApiToken) -> dict[str, Any]:
    """A token as JSON-ready data, without its digest."""
    data: dict[str, Any] = token.model_dump(mode="json", exclude={"digest", "user_id"})
    return {**data, "user": token.user_id}


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
