"""Markers: proof, in a stage's folder, of what it was made from and what it made."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from blake3 import blake3

from ironclad import __version__, durable
from ironclad.db.tables import SCHEMA_VERSION
from ironclad.stages.context import StageOutput

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from ironclad.db.tables import Job

NAME = "marker.json"


def digest_of(data: Any) -> str:
    """BLAKE3 of JSON data in canonical form, in hex."""
    text = json.dumps(data, sort_keys=True, separators=(",", ":"), default=str)
    return blake3(text.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Marker:
    """The content of marker.json."""

    stage: str
    attempt: int
    inputs_digest: str
    outputs: dict[str, dict[str, Any]]
    data: dict[str, Any]

    @property
    def digest(self) -> str:
        """What later stages depend on: the files' digests and the data."""
        return digest_of({"outputs": self.outputs, "data": self.data})


def files_of(folder: Path) -> dict[str, dict[str, Any]]:
    """Every file below a stage folder, the marker aside: size in bytes and BLAKE3."""
    found: dict[str, dict[str, Any]] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != NAME:
            name = path.relative_to(folder).as_posix()
            found[name] = {"size": path.stat().st_size, "blake3": durable.digest(path)}
    return found


def write(folder: Path, job: Job, stage: str, inputs_digest: str, data: Mapping[str, Any]) -> Marker:
    """Describe a finished stage folder in its marker."""
    marker = Marker(stage, job.attempt, inputs_digest, files_of(folder), dict(data))
    content = {
        "schema_version": SCHEMA_VERSION, "ironclad": __version__, "job_uuid": str(job.job_uuid),
        "user_id": job.user_id, "trace_id": job.trace_id, "stage": stage, "attempt": job.attempt,
        "inputs_digest": inputs_digest, "outputs": marker.outputs, "data": marker.data,
    }  # fmt: skip
    text = json.dumps(content, indent=2, sort_keys=True, default=str)
    durable.write_atomic(folder / NAME, text.encode())
    # Later stages see the data as it reads back, so that a first run and a replay depend on the same digest.
    return Marker(stage, job.attempt, inputs_digest, marker.outputs, json.loads(text)["data"])


def read(folder: Path) -> Marker | None:
    """The marker of a folder; None if it is missing or not one."""
    try:
        content = json.loads((folder / NAME).read_text(encoding="utf-8"))
        if content["schema_version"] != SCHEMA_VERSION:
            return None
        return Marker(
            content["stage"], content["attempt"], content["inputs_digest"], content["outputs"], content["data"]
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def reusable(folder: Path, inputs_digest: str, *, since_attempt: int = 0) -> StageOutput | None:
    """The finished stage in `folder`, if it was made from these inputs and every file of it is intact.

    Args:
        folder: the stage's final folder.
        inputs_digest: what the stage would be made from now.
        since_attempt: older results do not count (replay).
    """
    marker = read(folder)
    if marker is None or marker.inputs_digest != inputs_digest or marker.attempt < since_attempt:
        return None
    try:
        intact = files_of(folder) == marker.outputs
    except OSError:
        return None
    return StageOutput(folder, marker.data, marker.digest) if intact else None
