"""Asking MusicBrainz, AcoustID and the Cover Art Archive for a job: seldom, politely, and never at the job's cost."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from ironclad.errors import DatabaseUnavailable, MetadataServiceUnavailable
from ironclad.metadata import images, lookup
from ironclad.metadata.cache import FileCache
from ironclad.metadata.filename import Origin, complete
from ironclad.metadata.lookup import Lookup, Status
from ironclad.metadata.shared import DatabaseCache, DatabaseGate, Outage
from ironclad.stages import recognise

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import PurePath

    from ironclad.audio.fingerprint import Fingerprint
    from ironclad.config import Settings
    from ironclad.db.session import Database
    from ironclad.metadata.candidate import Candidate
    from ironclad.metadata.http import Manners
    from ironclad.metadata.model import Picture, TrackTags
    from ironclad.stages.context import StageContext

CHOSEN: Final = "musicbrainz"
"""The job's option that holds a candidate that `ironclad retag` found or the operator picked: nobody is asked then."""
PENDING: Final = "unavailable"
"""The status, of a lookup or a cover, that `ironclad retag --pending` looks for."""
_MUSICBRAINZ: Final = "musicbrainz"
_COVER_ART: Final = "coverartarchive"


@dataclass(frozen=True, slots=True)
class Found:
    """What a lookup gave; without a lookup both are None."""

    lookup: Lookup | None = None
    candidate: Candidate | None = None
    fingerprint: str = ""
    """What the recording sounds like, if that was needed: `ironclad retag` may ask again when the original is gone."""

    def to_dict(self) -> dict[str, Any] | None:
        """JSON-ready data; None if nobody was asked."""
        return None if self.lookup is None else self.lookup.to_dict()


def duration(context: StageContext) -> float:
    """The recording's length in seconds."""
    decoded = context.outputs["validate"].data["decoded"]
    return float(decoded["frames"]) / float(decoded["sample_rate"])


def look(
    database: Database, settings: Settings, tags: TrackTags, path: PurePath, seconds: float | None, *,
    sound: Callable[[], Fingerprint] | None = None, patient: bool = False, check: Callable[[], None] | None = None,
) -> Found:  # fmt: skip
    """Ask about a track whose own tags lack title, artist or album; what its names say helps to search.

    Any outage, of the service or of the database that its rate is shared through, gives the status `unavailable`.

    Args:
        database: where the rate and the answers are shared.
        settings: the installation's.
        tags: as read from the file.
        path: relative to the watch folder.
        seconds: the recording's length.
        sound: takes the recording's fingerprint; called only if AcoustID is to be asked.
        patient: ask even if the service did not answer somebody lately.
        check: may raise, while waiting.
    """
    service = settings.metadata.musicbrainz
    if not service.enabled:
        return Found()
    if not lookup.needed(tags):
        return Found(Lookup(Status.NOT_NEEDED))
    from ironclad.metadata.musicbrainz import MusicBrainz, Service  # noqa: PLC0415 - most jobs never ask

    outage = Outage(database, _MUSICBRAINZ)
    heard: Fingerprint | None = None
    try:
        if not patient and outage.lasts():
            return Found(Lookup(Status.UNAVAILABLE, detail="it did not answer lately"))
        where = Service(url=service.url, manners=_manners(settings, service.interval_seconds))
        known = complete(lookup.without_placeholders(tags), path).tags
        gate, cache = DatabaseGate(database, _MUSICBRAINZ), DatabaseCache(database)
        with MusicBrainz(where, gate, cache, check=check) as catalogue:
            found = lookup.look_up(known, seconds, catalogue, threshold=service.threshold, always=True)
            silent = found.status is Status.UNAVAILABLE
            if sound is not None and recognise.wanted(settings, found):
                heard = sound()
                try:
                    asked = recognise.Question(database, settings, tags, seconds, heard, _manners(settings, 0.0))
                    found = recognise.refined(asked, found, catalogue, patient=patient, check=check)
                except MetadataServiceUnavailable as exc:
                    found, silent = replace(found, status=Status.UNAVAILABLE, detail=exc.detail), True
        if silent:
            outage.begin(service.outage_seconds)
        elif patient:
            outage.end()
    except DatabaseUnavailable as exc:
        found = Lookup(Status.UNAVAILABLE, detail=str(exc))
    match = found.candidates[0][1] if found.status is Status.MATCHED else None
    return Found(found, match, "" if heard is None else heard.text)


def completed(tags: TrackTags, path: PurePath, candidate: Candidate | None) -> tuple[TrackTags, Mapping[str, Origin]]:
    """The file's tags, then the candidate's, then what the names say; and where each value came from."""
    if candidate is None:
        guess = complete(tags, path)
        return guess.tags, guess.origins
    found = lookup.apply(tags, candidate)
    guess = complete(found.tags, path)
    return guess.tags, {**guess.origins, **found.origins}


def cover(
    database: Database, settings: Settings, tags: TrackTags, *,
    patient: bool = False, check: Callable[[], None] | None = None,
) -> tuple[Picture | None, str]:  # fmt: skip
    """The front cover of the release in the tags, and what became of the question (found, none, unavailable …).

    As `look`: an outage is no error, and `patient` asks even if the service did not answer somebody lately.
    """
    service = settings.metadata.cover_art
    release, group = tags.musicbrainz_album_id, tags.musicbrainz_release_group_id
    if not service.enabled or not (release or group):
        return None, "not-asked"
    from ironclad.metadata.coverart import Archive, CoverArt  # noqa: PLC0415 - likewise

    archive = Archive(service.url, service.size, manners=replace(_manners(settings, 0.0), max_bytes=16 << 20))
    outage = Outage(database, _COVER_ART)
    try:
        if not patient and outage.lasts():
            return None, PENDING
        cache = FileCache(settings.layout.cover_art_cache)
        try:
            with CoverArt(archive, DatabaseGate(database, _COVER_ART), cache, check=check) as covers:
                front = covers.front(album_id=release, release_group_id=group)
        except MetadataServiceUnavailable:
            outage.begin(settings.metadata.musicbrainz.outage_seconds)
            return None, PENDING
        if patient:
            outage.end()
    except DatabaseUnavailable:
        return None, PENDING
    return front, "none" if front is None else "found"


def cover_file(picture: Picture) -> str:
    """The name of a fetched cover in the stage's folder."""
    return f"fetched{images.SUFFIXES[picture.mime]}"


def parameters(settings: Settings) -> dict[str, Any]:
    """What decides whether somebody is asked, and whom."""
    chosen = settings.metadata.musicbrainz
    art = settings.metadata.cover_art
    sound = settings.metadata.acoustid
    return {
        "musicbrainz": [chosen.url, chosen.threshold] if chosen.enabled else None,
        "acoustid": sound.url if chosen.enabled and sound.enabled else None,
        "cover_art": [art.url, art.size] if art.enabled else None,
    }


def _manners(settings: Settings, interval: float) -> Manners:
    from ironclad.metadata.http import Manners  # noqa: PLC0415 - likewise

    service = settings.metadata.musicbrainz
    manners = Manners(interval=interval, timeout=service.timeout_seconds, attempts=service.attempts)
    return replace(manners, contact=service.contact) if service.contact else manners
