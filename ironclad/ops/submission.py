"""From a file and what is wanted of it to a job in the queue: what the command line and the API have in common."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from ironclad.engines import choice, products
from ironclad.errors import BadRequest
from ironclad.ingest import claim
from ironclad.ingest.places import DEFAULT_USER, absolute
from ironclad.jobs import pipeline, submit
from ironclad.jobs.submit import NewJob

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from ironclad.config import Settings
    from ironclad.db.session import Database
    from ironclad.ingest.claim import Outcome


class Format(StrEnum):
    """Output formats; a test holds them to the setting's."""

    AUTO = "auto"
    FLAC = "flac"
    MP3 = "mp3"
    M4A = "m4a"
    OPUS = "opus"
    OGG = "ogg"
    WAV = "wav"


@dataclass(frozen=True, slots=True)
class Found:
    """A file to process. `relative` is where it was below the folder that was named; it names the album."""

    path: Path
    relative: str


class Instrumental(StrEnum):
    """Ways to make the instrumental; a test holds them to the setting's."""

    MIXTURE_MINUS_VOCALS = "mixture-minus-vocals"
    SUM_OF_STEMS = "sum-of-stems"


def mix(instrumental: Instrumental | None, karaoke_db: float | None) -> dict[str, Any]:
    """What a command asks for instead of the settings' section `recombine`."""
    asked = {"instrumental": None if instrumental is None else instrumental.value, "karaoke_db": karaoke_db}
    return {name: value for name, value in asked.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the command line asks for; None: as the settings say."""

    engine: str | None = None
    engine_pool: str = "cpu"
    output_format: str | None = None
    stems: tuple[str, ...] | None = None
    user: str = DEFAULT_USER
    priority: int = 0
    pool: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    parameters: dict[str, Any] | None = None

    def job(self, found: Found, mode: str = "copy") -> NewJob:
        """The job to make of a file; in mode copy the file stays where it is. Raises OSError if it is gone."""
        return NewJob(
            user_id=self.user, source=found.path, relative_path=found.relative, stat=found.path.lstat(),
            ingest_mode=mode, priority=self.priority, engine=self.engine, engine_pool=self.engine_pool,
            output_format=self.output_format, stems=self.stems, options=dict(self.options), pool=self.pool,
            parameters=self.parameters,
        )  # fmt: skip


def wishes(
    settings: Settings, *, engine: str | None, output_format: Format | None, stems: str | None, force: bool,
    model: str | None = None,
    mixing: Mapping[str, Any] | None = None,
    output: Path | None = None, user: str = DEFAULT_USER, priority: int = 0, pool: str | None = None,
) -> Wishes:  # fmt: skip
    """Check what was asked for before any file is touched.

    Raises `EngineMissing`, `NotFound` for a model that the engine does not have, and `BadRequest` for stems that it
    does not make or an impossible output folder.
    """
    chosen = choice.choose(settings, engine=engine, model=model, stems=stems.split(",") if stems else None)
    wanted = None if stems is None else tuple(dict.fromkeys(name.strip() for name in stems.split(",") if name.strip()))
    made = chosen.spec.stems_of(str(chosen.parameters.get(choice.MODEL, "")))
    products.stems_for(wanted or settings.output.stems, made)
    options: dict[str, Any] = {"force": True} if force else {}
    if mixing:
        options[pipeline.MIXING] = dict(mixing)
    if engine is not None or model is not None:
        options[pipeline.ENGINE_ASKED] = True
    if output is not None:
        if output.exists() and not output.is_dir():
            raise BadRequest(f"{submit.display(output)} is a file; -o takes a folder.")
        options["output_dir"] = str(absolute(output))
    return Wishes(
        engine=engine, engine_pool=chosen.pool, parameters=chosen.parameters, stems=wanted or None, user=user,
        priority=priority, pool=pool,
        output_format=None if output_format is None else output_format.value, options=options,
    )  # fmt: skip


def queue(database: Database, settings: Settings, wish: Wishes, found: Found, mode: str = "copy") -> Outcome:
    """Take one file into the archive and queue its job; what cannot be copied is visible as a failed job.

    Raises `AlreadyReceived` (a watch root has it, or another command is at it), `DiskFull`, `DatabaseUnavailable`.
    """
    outcome = claim.take(database, settings, wish.job(found, mode))
    if outcome.error is not None and outcome.state == "received":
        # It would wait for the watcher to try again; here somebody waits for the answer.
        claim.refuse(database, settings, outcome.job_uuid, outcome.error)
    with database.session() as session:
        submit.release_source(session, outcome.job_uuid)
    return outcome
