"""organize: finished files get their place in the library, whole or not at all, and are recorded."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ironclad import durable
from ironclad.errors import LibraryConflict
from ironclad.jobs.states import JobState
from ironclad.library.names import numbered
from ironclad.library.naming import DEFAULT_TEMPLATE, PathTemplate, track_name
from ironclad.library.receipt import SUFFIX, Receipt
from ironclad.metadata.convert import cover_name, front_cover
from ironclad.metadata.derive import derive, path_fields
from ironclad.stages import leavings, neighbours, receipts, scans
from ironclad.stages.context import Published, Stage, StageContext, StageResult
from ironclad.stages.metadata import finished
from ironclad.stages.tagging import RESULT, derivation

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ironclad.config import Settings
    from ironclad.db.tables import Job
    from ironclad.library.lint import Finding

FLAT_TEMPLATE = "{% if track is not none %}{{ track | pad(2) }} - {% endif %}{{ title }}"
"""For `ironclad process -o DIR`: files directly in the folder."""
RECEIPT_SUFFIX = SUFFIX
COVER: Final = "cover:"
"""Begins an artifact's kind, as `receipt:` does; the deliverable's kind follows."""
_SHOWN = 3


class _TakenError(Exception):
    """The one name that a cover can have belongs to somebody else."""


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
    durable.write_atomic(file, Receipt.from_dict({**receipt, "file": published.path.name}).to_bytes())
    final = published.path.with_name(published.path.name + RECEIPT_SUFFIX)
    stem = final.name.removesuffix(RECEIPT_SUFFIX)

    def candidate(number: int) -> Path:
        return final if number == 1 else final.with_name(f"{stem}.{number}{RECEIPT_SUFFIX}")

    context.library.put(f"receipt:{published.kind}", file, candidate, None)


def _cover(context: StageContext, published: Published) -> None:
    """The front cover in the album's folder, once: whoever comes first; what is there already stays as it is."""
    album = published.path.parent
    picture = front_cover(finished(context).pictures)
    if picture is None or picture.path is None or context.job.options.get("output_dir") or album == root(context):
        return

    def only(number: int) -> Path:
        if number > 1:
            raise _TakenError
        return album / cover_name(picture)

    there = {one.name.lower() for one in album.iterdir()} & {"cover.jpg", "cover.png"}
    mine = neighbours.owner(context, album / cover_name(picture)) == context.job.job_uuid
    if there and not (mine and neighbours.untouched(context, album / cover_name(picture))):
        return
    try:
        context.library.put(f"{COVER}{published.kind}", picture.path, only, None)
    except _TakenError:
        context.log.write(event="cover_taken", folder=str(album))


def _lint(context: StageContext) -> list[Finding]:
    """What media servers would get wrong once the new files are there."""
    if context.settings.library.lint == "off" or context.job.options.get("output_dir"):
        return []
    new = {
        _place(context, made["kind"], Path(made["file"]).suffix): derive(
            finished(context).tags, derivation(context, made["kind"])
        )
        for made in context.outputs["recombine"].data["files"]
    }
    return neighbours.findings(context, root(context), new)


def run(context: StageContext) -> StageResult:
    """Publish every deliverable of recombine, its receipt, and the album's cover.

    Where a media server would merge, split or mistake albums, that is recorded; with the policy `quarantine` nothing is
    published then.
    """
    findings = _lint(context)
    data: dict[str, Any] = {"lint": [finding.to_dict() for finding in findings]}
    errors = [finding for finding in findings if finding.is_error]
    if errors and context.settings.library.lint == "quarantine":
        more = f" (and {len(errors) - _SHOWN} more)" if len(errors) > _SHOWN else ""
        detail = "; ".join(f"{finding.rule}: {finding.message}" for finding in errors[:_SHOWN]) + more
        return StageResult(data=data, settle=JobState.QUARANTINED, error=LibraryConflict(detail))
    for finding in findings:
        context.log.write(event="lint", rule=finding.rule, server=finding.server, message=finding.message)
    made = context.outputs["recombine"]
    paths = []
    for index, deliverable in enumerate(made.data["files"]):
        context.check()
        kind = deliverable["kind"]
        tags = derive(finished(context).tags, derivation(context, kind))
        result = context.job.options.get(RESULT, "")
        receipt = receipts.timed(
            context, {**deliverable["receipt"], "servers": neighbours.facts(tags), RESULT: result}
        )  # fmt: skip
        published = _publish(context, kind, made.folder / deliverable["file"], receipt)
        if context.settings.output.receipts:
            _sidecar(context, published, receipt)
        if context.settings.output.cover:
            _cover(context, published)
        paths.append({"kind": published.kind, "path": str(published.path), "blake3": published.blake3})
        context.fraction((index + 1) / len(made.data["files"]))
    data["removed"] = leavings.sweep(context, root(context))
    if not context.job.options.get("output_dir"):
        data["scans"] = scans.announce(context, [Path(one["path"]).parent for one in paths])
    return StageResult(data={**data, "published": paths})


def parameters(job: Job, settings: Settings) -> Mapping[str, Any]:
    """Where files go."""
    return {"template": settings.output.template, "output_dir": job.options.get("output_dir")}


STAGE = Stage(name="organize", version=1, run=run, parameters=parameters, depends=("metadata", "recombine"), keep=False)
