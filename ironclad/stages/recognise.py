"""Recognising a track by its sound, where MusicBrainz does not find it by words."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from ironclad.errors import MetadataServiceUnavailable
from ironclad.metadata import lookup
from ironclad.metadata.lookup import Status
from ironclad.metadata.shared import DatabaseCache, DatabaseGate, Outage

if TYPE_CHECKING:
    from collections.abc import Callable

    from ironclad.audio.fingerprint import Fingerprint
    from ironclad.config import Settings
    from ironclad.db.session import Database
    from ironclad.metadata.http import Manners
    from ironclad.metadata.lookup import Catalogue, Lookup
    from ironclad.metadata.model import TrackTags

_ACOUSTID: Final = "acoustid"


@dataclass(frozen=True, slots=True)
class Question:
    """What is known of the track, and how to ask."""

    database: Database
    settings: Settings
    tags: TrackTags
    """The file's own: what its name says must not speak against its sound."""
    seconds: float | None
    heard: Fingerprint
    manners: Manners


def wanted(settings: Settings, found: Lookup) -> bool:
    """Whether AcoustID is to be asked after MusicBrainz found this."""
    service = settings.metadata.acoustid
    return service.enabled and service.client_key is not None and found.status in {Status.NONE, Status.AMBIGUOUS}


def refined(
    question: Question, found: Lookup, catalogue: Catalogue, *,
    patient: bool = False, check: Callable[[], None] | None = None,
) -> Lookup:  # fmt: skip
    """What was found, bettered by the sound. An outage of AcoustID gives the status `unavailable`.

    Raises `MetadataServiceUnavailable` when the catalogue does not answer, `DatabaseUnavailable`, and what `check`
    raises.
    """
    settings, heard = question.settings, question.heard
    service = settings.metadata.acoustid
    if not heard.text or not question.seconds or service.client_key is None:
        return replace(found, detail=f"{found.detail}; its sound is not known: {heard.problem or 'it has no length'}")
    from ironclad.metadata.acoustid import AcoustId, Service  # noqa: PLC0415 - most jobs never ask

    outage = Outage(question.database, _ACOUSTID)
    if not patient and outage.lasts():
        return replace(found, status=Status.UNAVAILABLE, detail="AcoustID did not answer lately")
    where = Service(
        client_key=service.client_key.get_secret_value(), url=service.url,
        manners=replace(question.manners, interval=service.interval_seconds),
    )  # fmt: skip
    gate, cache = DatabaseGate(question.database, _ACOUSTID), DatabaseCache(question.database)
    try:
        with AcoustId(where, gate, cache, check=check) as acoustid:
            sounds = acoustid.recordings(heard.text, question.seconds)
    except MetadataServiceUnavailable as exc:
        outage.begin(settings.metadata.musicbrainz.outage_seconds)
        return replace(found, status=Status.UNAVAILABLE, detail=exc.detail)
    if patient:
        outage.end()
    threshold = settings.metadata.musicbrainz.threshold
    return lookup.by_sound(found, question.tags, question.seconds, sounds, catalogue, threshold=threshold)
