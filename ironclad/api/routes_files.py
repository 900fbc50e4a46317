"""Published files: list them, fetch them."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final
from uuid import UUID

from fastapi import APIRouter, Request
from fastapi import Path as PathParameter
from starlette.responses import FileResponse, Response

from ironclad.api import context as contexts
from ironclad.api import models
from ironclad.api.auth import See, visible
from ironclad.errors import FileChanged, NotFound
from ironclad.jobs import query

if TYPE_CHECKING:
    import os

    from ironclad.db import tables

router: Final = APIRouter(tags=["Files"])
JobId = Annotated[UUID, PathParameter(description="The job.")]
FileId = Annotated[UUID, PathParameter(description="The file.")]


@router.get("/v1/jobs/{job_uuid}/files", summary="List a job's files")
def list_files(request: Request, bearer: See, job_uuid: JobId) -> models.Files:
    """What was published of a job."""
    context = contexts.of(request)
    library = context.settings.layout.output
    with context.database.session() as session:
        visible(session, bearer, job_uuid)
        found = [row for row in query.artifacts(session, job_uuid) if _is_below(Path(row.path), library)]
    return models.Files(files=[models.File.of(row, library) for row in found])


@router.head("/v1/jobs/{job_uuid}/files/{file_id}", include_in_schema=False)
@router.get(
    "/v1/jobs/{job_uuid}/files/{file_id}", summary="Fetch a file", response_class=Response,
    responses={
        200: {"content": {"application/octet-stream": {}}, "description": "The file."},
        206: {"content": {"application/octet-stream": {}}, "description": "The part that `Range` asks for."},
        304: {"description": "It is the one that `If-None-Match` names."},
    },
)  # fmt: skip
def fetch_file(request: Request, bearer: See, job_uuid: JobId, file_id: FileId) -> Response:
    """The bytes of a published file. `Range`, `If-Range`, `If-None-Match` and HEAD are understood."""
    context = contexts.of(request)
    with context.database.session() as session:
        visible(session, bearer, job_uuid)
        row = next((one for one in query.artifacts(session, job_uuid) if one.artifact_uuid == file_id), None)
    if row is None:
        raise NotFound(f"Job {job_uuid} has no file {file_id}.")
    path, found = _in_library(row, context.settings.layout.output)
    etag = f'"{row.blake3}"'
    headers = {"ETag": etag, "Cache-Control": "private, no-cache"}
    if etag in (one.strip().removeprefix("W/") for one in request.headers.get("if-none-match", "").split(",")):
        return Response(status_code=304, headers=headers)
    return FileResponse(path, headers=headers, filename=path.name, stat_result=found)


def _is_below(path: Path, library: Path) -> bool:
    return path.is_relative_to(library) and ".." not in path.parts


def _in_library(row: tables.Artifact, library: Path) -> tuple[Path, os.stat_result]:
    """Where the file is, if it is in the library and as it was published. Raises `NotFound`, `FileChanged`."""
    path = Path(row.path)
    try:
        real = path.resolve(strict=True)
        found = real.stat()
    except OSError as exc:
        raise NotFound(f"{path.name} is no longer there.") from exc
    if not real.is_relative_to(library.resolve()) or not stat.S_ISREG(found.st_mode):
        raise NotFound(f"{path.name} is not in the library.")
    if found.st_size != row.size:
        raise FileChanged(f"{path.name} has {found.st_size} bytes, {row.size} were published.")
    return real, found
