"""Who asks: the bearer token of a request, and whether its role may do what the endpoint does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from ironclad import log
from ironclad.access import tokens
from ironclad.access.roles import Right
from ironclad.access.tokens import Bearer
from ironclad.api import context as contexts
from ironclad.errors import Forbidden, NotFound, Unauthorised
from ironclad.jobs.transition import load

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from sqlmodel import Session

    from ironclad.db.tables import Job

RIGHT: Final = "ironclad_right"
"""An attribute of the dependencies here: the right that they ask for."""
_SCHEME: Final = HTTPBearer(
    auto_error=False, scheme_name="token", description="`ironclad api tokens create` makes one.", bearerFormat="icl_…"
)
Shown = Annotated[HTTPAuthorizationCredentials | None, Depends(_SCHEME)]


def _may(right: Right) -> Callable[[Request, HTTPAuthorizationCredentials | None], Bearer]:
    def bearer(request: Request, shown: Shown) -> Bearer:
        found = _authenticated(request, shown)
        request.state.actor = found.actor
        if not found.may(right):
            raise Forbidden(f"Its role is {found.role}; this needs the right to {right}.")
        return found

    setattr(bearer, RIGHT, right)
    return bearer


def _authenticated(request: Request, shown: HTTPAuthorizationCredentials | None) -> Bearer:
    context = contexts.of(request)
    try:
        with context.database.session() as session:
            return tokens.authenticate(session, None if shown is None else shown.credentials)
    except Unauthorised as exc:
        reason = str(exc.context["reason"])
        context.metrics.counter("ironclad_api_refused_tokens_total").labels(reason).inc()
        client = request.client.host if request.client else ""
        log.get(component="api").warning(
            "request_refused", reason=reason, label=exc.context.get("label"), client=client
        )
        raise


See = Annotated[Bearer, Depends(_may(Right.SEE))]
Send = Annotated[Bearer, Depends(_may(Right.SEND))]
Change = Annotated[Bearer, Depends(_may(Right.CHANGE))]
Oversee = Annotated[Bearer, Depends(_may(Right.OVERSEE))]
Operate = Annotated[Bearer, Depends(_may(Right.OPERATE))]


def visible(session: Session, bearer: Bearer, job_uuid: UUID) -> Job:
    """The job, if it is there for this token. Raises `NotFound`, which says nothing else of somebody else's job."""
    job = load(session, job_uuid)
    if not bearer.sees(job.user_id):
        raise NotFound(f"There is no job {job_uuid}.")
    return job
