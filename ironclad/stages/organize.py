"""organize: finished files get their place in the library, whole or not at all, and are recorded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ironclad import durable
from ironclad.library.names import numbered
from ironclad.library.naming import DEFAULT_TEMPLATE, PathTemplate, track_name
from ironclad.metadata.derive import path_fields
from ironclad.stages.context import Published, Stage, StageContext, StageResult
from ironclad.stages.metadata import finished
from ironclad.stages.tagging import derivation

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ironclad.config import Settings
    from ironclad.db.tables import Job

FLAT_TEMPLATE = "{% if track is not none %}{{ track | pad(2) }} - {% endif %}{{ title }}"
"""For `ironclad process -o DIR`: files directly in the folder."""
RECEIPT_SUFFIX = ".receipt.json"


def template(job: Job, settings: Settings) -> PathTemplate:
    """The path template in force. Raises `ConfigError` with the place of a mistake."""
    if settings.output.template:
        return PathTemplate(settings.output.template)
    return PathTemplate(FLAT_TEMPLATE if job.options.get("output_dir") else DEFAULT_TEMPLATE)


def root(context: StageContext) -> Path:
    """The library's folder, or the one that the job asked for."""
    chosen = context.job.options.get("output_dir")
    return Path(chosen) if chosen else context.layout.output


def _place(context: StageContext, kind: str, suffix: str) -> Path:
    fields = path_fields(finished(context).tags, derivation(context, kind))
    fields |= {"format": suffix.lstrip("."), "user": context.job.user_id}
    return root(context) / template(context.job, context.settings).render(track_name(fields), suffix)


def _publish(context: StageContext, kind: str, file: Path, receipt: Mapping[str, Any]) -> Published:
    wanted = _place(context, kind, file.suffix)

    def candidate(number: int) -> Path:
        return wanted if number == 1 else wanted.with_name(numbered(wanted.name, number))

    return context.library.put(kind, file, candidate, receipt)


def _sidecar(context: StageContext, published: Published, receipt: Mapping[str, Any]) -> None:
    """The receipt beside its file: named after it, so that the two stay together."""
    file = context.folder / f"{published.kind}{RECEIPT_SUFFIX}"
    content = {**receipt, "file": published.path.name, "blake3": published.blake3}
    durable.write_atomic(file, json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False).encode())
    final = published.path.with_name(published.path.name + RECEIPT_SUFFIX)
    stem = final.name.removesuffix(RECEIPT_SUFFIX)

    def candidate(number: int) -> Path:
        return final if number == 1 else final.with_name(f"{stem}.{number}{RECEIPT_SUFFIX}")

    context.library.put(f"receipt:{published.kind}", file, candidate, None)


def run(context: StageContext) -> StageResult:
    """Publish every deliverable of recombine, and its receipt."""
    made = context.outputs["recombine"]
    paths = []
    for index, deliverable in enumerate(made.data["files"]):
        context.check()
        file = made.folder / deliverable["file"]
        published = _publish(context, deliverable["kind"], file, deliverable["receipt"])
        if context.settings.output.receipts:
            _sidecar(context, published, deliverable["receipt"])
        paths.append({"kind": published.kind, "path": str(published.path), "blake3": published.blake3})
        context.fraction((index + 1) / len(made.data["files"]))
    return StageResult(data={"published": paths})


def parameters(job: Job, settings: Settings) -> Mapping[str, Any]:
    """Where files go."""
    return {"template": settings.output.template, "output_dir": job.options.get("output_dir")}


STAGE = Stage(name="organize", version=1, run=run, parameters=parameters, depends=("metadata", "recombine"), keep=False)
