"""Stages that make files as the real ones do, without decoding or separating: the protocol around them is the real one.

Publishing, too, is the real thing; only names and receipts are made up. Everything they write depends on the job alone,
so that every run gives the same bytes.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from chaoslab.world import SONG
from ironclad import durable
from ironclad.errors import AlreadyInstrumental, NotAudio
from ironclad.jobs.states import JobState
from ironclad.metadata.model import TrackTags
from ironclad.metadata.read import Reading
from ironclad.stages import leavings, runner
from ironclad.stages.context import StageContext, StageResult
from ironclad.stages.registry import STAGES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

KINDS = ("instrumental", "vocals")
WANTED = (
    "Ana/Colours (Instrumentals)/01 - Blue (Instrumental).flac",
    "Ana/Colours (Vocals)/01 - Blue (Vocals).flac",
)
"""Where they are published, below output/."""
ALBUM = "Colours"
"""The album in those names; a job's parameter `album` puts another one there."""


@dataclass(frozen=True, slots=True)
class Stubs:
    """How the made-up stages behave."""

    reject: bool = False
    skip: bool = False


def content(kind: str, take: object = 1) -> bytes:
    """The bytes of a deliverable."""
    return b"%s take %s\n" % (kind.encode(), str(take).encode()) + SONG[::-1]


def renamed(number: int, album: str) -> str:
    """Where a deliverable is published if the album is called so."""
    return WANTED[number].replace(ALBUM, album)


def written(path: Path, data: bytes) -> None:
    """Write as encoders do: in pieces, without flushing; the recorder is told, for the power-loss model."""
    with path.open("wb", buffering=0) as file:
        for start in range(0, len(data), 8192):
            file.write(data[start : start + 8192])
    durable._note("write", path)


def _validate(context: StageContext, stubs: Stubs) -> StageResult:
    if stubs.reject:
        raise NotAudio("made to fail")
    return StageResult(data={"read": durable.digest(context.source)}, facts={"duration_seconds": 4.0})


def _categorize(_context: StageContext, stubs: Stubs) -> StageResult:
    if stubs.skip:
        return StageResult(settle=JobState.SKIPPED, error=AlreadyInstrumental("made to skip"))
    return StageResult(data={"category": "music"})


def _metadata(context: StageContext, _stubs: Stubs) -> StageResult:
    tags = TrackTags(title="Blue", artists=("Ana",), album="Colours", album_artists=("Ana",), track=1)
    pictures = context.folder / "pictures"
    durable.make_dirs(pictures)
    written(pictures / "front.jpg", b"jpeg" * 500)
    return StageResult(data={"reading": Reading("FLAC", tags).to_dict()}, facts={"title": "Blue", "artist": "Ana"})


def _stage(context: StageContext, _stubs: Stubs) -> StageResult:
    written(context.folder / "decoded.f32", SONG)
    (context.folder / "decoded.f32").rename(context.folder / "mixture.f32")
    durable._note("rename", context.folder / "decoded.f32", context.folder / "mixture.f32")
    return StageResult()


def _separate(context: StageContext, _stubs: Stubs) -> StageResult:
    for kind in KINDS:
        written(context.folder / f"{kind}.f32", content(kind))
    return StageResult(data={"engine": "stub", "version": "1", "model_digest": "d", "take": _take(context)})


def _take(context: StageContext) -> object:
    return context.job.parameters.get("take", 1)


def _recombine(context: StageContext, _stubs: Stubs) -> StageResult:
    scratch = context.folder / "scratch"
    durable.make_dirs(scratch)
    written(scratch / "sum.f32", SONG)
    files = []
    for kind in KINDS:
        written(context.folder / f"{kind}.flac", content(kind, _take(context)))
        files.append({"kind": kind, "file": f"{kind}.flac", "receipt": {"kind": kind, "schema_version": 1}})
    durable.remove_tree(scratch, reason="combined")
    return StageResult(data={"files": files})


def _organize(context: StageContext, _stubs: Stubs) -> StageResult:
    made = context.outputs["recombine"]
    for number, deliverable in enumerate(made.data["files"]):
        final = context.layout.output / renamed(number, str(context.job.parameters.get("album", ALBUM)))

        def candidate(nth: int, final: Path = final) -> Path:
            return final if nth == 1 else final.with_stem(f"{final.stem} ({nth})")

        published = context.library.put(
            deliverable["kind"], made.folder / deliverable["file"], candidate, deliverable["receipt"]
        )
        receipt = context.folder / f"{deliverable['kind']}.receipt.json"
        durable.write_atomic(receipt, b'{"blake3": "%s"}' % published.blake3.encode())
        beside = published.path.with_name(published.path.name + ".receipt.json")
        context.library.put(f"receipt:{deliverable['kind']}", receipt, lambda _, path=beside: path, None)
    return StageResult(data={"removed": leavings.sweep(context, context.layout.output)})


_RUNS = {
    "validate": _validate, "categorize": _categorize, "metadata": _metadata, "stage": _stage, "separate": _separate,
    "recombine": _recombine, "organize": _organize,
}  # fmt: skip


def _table(stubs: Stubs) -> Mapping[str, Any]:
    table: dict[str, Any] = dict(STAGES)
    for name, run in _RUNS.items():
        table[name] = replace(
            STAGES[name], run=lambda context, run=run: run(context, stubs), parameters=lambda job, _: {**job.parameters}
        )
    return table


@contextlib.contextmanager
def installed(stubs: Stubs | None) -> Iterator[None]:
    """The runner uses these stages inside; None: the real ones."""
    if stubs is None:
        yield
        return
    before = runner.STAGES
    runner.STAGES = _table(stubs)  # type: ignore[misc]  # a seam of the laboratory
    try:
        yield
    finally:
        runner.STAGES = before  # type: ignore[misc]  # likewise
