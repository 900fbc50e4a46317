"""Songs come in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final
from uuid import UUID

import anyio.to_thread
from fastapi import APIRouter, Query, Request, Response

from ironclad.access.roles import Right
from ironclad.api import context as contexts
from ironclad.api import models, uploads
from ironclad.api.auth import Send
from ironclad.errors import BadRequest, DatabaseUnavailable, Forbidden, NotFound, StorageError
from ironclad.jobs.states import JobState
from ironclad.jobs.transition import load
from ironclad.ops import submission
from ironclad.ops.submission import Format, Instrumental

if TYPE_CHECKING:
    from ironclad.access.tokens import Bearer
    from ironclad.api.context import Context
    from ironclad.ops.submission import Wishes

router: Final = APIRouter(tags=["Songs"])
_BODY: Final = {"requestBody": {"required": True, "content": {"application/octet-stream": {}}}}


@router.post(
    "/v1/songs", status_code=201, summary="Send a song", openapi_extra=_BODY,
    responses={
        200: {"model": models.Sent, "description": "The same was there before: nothing to do."},
        201: {
            "description": "Its job is made and waits.",
            "headers": {"Location": {"description": "The job.", "schema": {"type": "string"}}},
        },
    },
)  # fmt: skip
async def send_song(
    request: Request, response: Response, bearer: Send, *,
    name: Annotated[str, Query(min_length=1, description="What it is called, perhaps with folders before it.")],
    engine: Annotated[str | None, Query(description="The engine.")] = None,
    model: Annotated[str | None, Query(description="Its model.")] = None,
    format: Annotated[Format | None, Query(description="The format of the results.")] = None,  # noqa: A002 - as `submit`
    stems: Annotated[str | None, Query(description="What to make, as `instrumental,karaoke`.")] = None,
    instrumental: Annotated[Instrumental | None, Query(description="How to make the instrumental.")] = None,
    karaoke_db: Annotated[
        float | None, Query(ge=-60, le=0, description="Level of the vocals in the karaoke mix, in dB.")
    ] = None,
    force: Annotated[bool, Query(description="Even if it was done before or there seems to be nothing to do.")] = False,
    priority: Annotated[int, Query(ge=-1000, le=1000, description="Higher goes first; above 0 for operators.")] = 0,
) -> models.Sent:  # fmt: skip
    """The body is the file itself, with `Repr-Digest: sha-256=:…:` if it shall be checked.

    Sending a song again is safe: a song that is there with the same wishes is a `duplicate`.
    """
    context = contexts.of(request)
    if priority > 0 and not bearer.may(Right.OPERATE):
        raise Forbidden("Only operators put songs before those of others.")
    relative = uploads.checked_name(name, context.settings.ingest.max_path_bytes)

    def wished() -> Wishes:
        try:
            return submission.wishes(
                context.settings, engine=engine, model=model, output_format=format, stems=stems, force=force,
                user=bearer.user_id, priority=priority, mixing=submission.mix(instrumental, karaoke_db),
            )  # fmt: skip
        except NotFound as exc:  # what is asked for, not what is asked
            raise BadRequest(str(exc)) from exc

    wish = await anyio.to_thread.run_sync(wished)
    upload = uploads.Upload(context.settings.layout.uploads, relative.rpartition("/")[2])
    keep = False
    try:
        await uploads.receive(request, context, upload)
        keep = True  # from here on the claim's thread answers for it, even if this task is cancelled
    finally:
        if not keep:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(upload.drop)
    sent = await anyio.to_thread.run_sync(_claim, context, bearer, wish, upload, relative)
    response.status_code = 200 if sent.duplicate else 201
    response.headers["Location"] = f"/v1/jobs/{sent.job.job_uuid}"
    return sent


def _claim(context: Context, bearer: Bearer, wish: Wishes, upload: uploads.Upload, relative: str) -> models.Sent:
    """Hand the song over as `ironclad submit` does.

    While the database is away it is not certain whether there is a job: then the song stays for it. If there is one,
    the watcher finishes its claim; if not, the song is a leftover, and the client sends it again.
    """
    found = submission.Found(upload.path, relative)
    try:
        outcome = submission.queue(context.database, context.settings, wish, found, "move")
    except DatabaseUnavailable:
        raise
    except BaseException:
        upload.drop()
        raise
    upload.drop()
    if outcome.error is not None:
        raise outcome.error
    if outcome.changed:
        raise StorageError(f"{upload.path.name} changed after it had arrived.")
    with context.database.session() as session:
        job = load(session, outcome.job_uuid)
        other = _other(job.error) if outcome.state is JobState.SKIPPED else None
        if other is not None and not bearer.sees(load(session, other).user_id):
            other = None
    return models.Sent(
        job=models.Job.of(job, context.settings.layout.root),
        duplicate=outcome.state is JobState.SKIPPED,
        duplicate_of=other,
    )


def _other(error: dict[str, object] | None) -> UUID | None:
    context = (error or {}).get("context")
    return UUID(str(context["job"])) if isinstance(context, dict) and "job" in context else None
