"""The identity of a derived recording: what an instrumental is called, and which of its source's ids it must not keep.

An instrumental is not the recording it was made of. Media servers group and match by MusicBrainz ids first (Navidrome's
persistent ids, Jellyfin's user data keys), so the source's ids move to keys that nobody matches on. The reasons, server
by server: docs/adr/0010-identity-of-derived-recordings.md.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ironclad.metadata.fields import FIELDS, flatten
from ironclad.metadata.filename import VARIOUS_ARTISTS

if TYPE_CHECKING:
    from ironclad.metadata.model import Texts, TrackTags

SOURCE_PREFIX = "IRONCLAD_SOURCE_"
_REPLAYGAIN_LUFS = -18.0
"""Reference loudness of ReplayGain 2.0 (EBU R128 measurement, 89 dB SPL in the older words)."""
_SILENCE_LUFS = -70.0
"""The absolute gate of ITU-R BS.1770-5: below it there is no loudness to speak of."""

_IDENTITY_KEYS = frozenset({"ISRC", "ASIN"})
_IDENTITY_PREFIXES = ("MUSICBRAINZ", "ACOUSTID", "UFID:", "DISCOGS", "SPOTIFY", "DEEZER")
_LOUDNESS_PREFIXES = ("REPLAYGAIN_", "R128_", "MP3GAIN_")
_OWN = frozenset({
    "IRONCLAD_JOB", "IRONCLAD_STEM", "IRONCLAD_ENGINE", "IRONCLAD_MODEL_SHA256", "IRONCLAD_TRACE_ID",
})  # fmt: skip


class AlbumPolicy(enum.StrEnum):
    """Where derived tracks live in a media server."""

    OWN_ALBUM = "own-album"
    """In an album of their own: `Album (Instrumentals)`."""
    SAME_ALBUM = "same-album"
    """In the source's album, told apart by title only."""


@dataclass(frozen=True, slots=True)
class StemLabel:
    """How a stem is called in titles and albums."""

    one: str
    many: str


_LABELS = {
    "instrumental": StemLabel("Instrumental", "Instrumentals"),
    "karaoke": StemLabel("Karaoke", "Karaoke"),
    "vocals": StemLabel("Vocals", "Vocals"),
    "drums": StemLabel("Drums", "Drums"),
    "bass": StemLabel("Bass", "Bass"),
    "guitar": StemLabel("Guitar", "Guitar"),
    "piano": StemLabel("Piano", "Piano"),
    "other": StemLabel("Other", "Other"),
}
_SYNONYMS = {"accompaniment": "instrumental", "no_vocals": "instrumental", "vocal": "vocals"}


def label(stem: str) -> StemLabel:
    """The label of a product: `drums` → Drums, `no_vocals` → Instrumental, `bass+lead_synth` → Bass + Lead Synth."""
    name = stem.strip().lower()
    if "+" in name:
        parts = [label(part) for part in name.split("+")]
        return StemLabel(" + ".join(part.one for part in parts), " + ".join(part.many for part in parts))
    name = _SYNONYMS.get(name, name)
    text = " ".join(word.capitalize() for word in name.replace("_", " ").replace("-", " ").split()) or "Stem"
    return _LABELS.get(name, StemLabel(text, text))


@dataclass(frozen=True, slots=True, kw_only=True)
class Derivation:
    """How a recording was made from another."""

    stem: str
    """The engine's name for it: `instrumental`, `vocals`, `drums`, …"""
    job_uuid: str
    trace_id: str
    engine: str
    engine_version: str = ""
    model_sha256: Texts = ()
    """Digests of the model files used; empty for engines without weights."""
    policy: AlbumPolicy = AlbumPolicy.OWN_ALBUM
    result: str = ""
    """Tells it from an earlier result of the same song that was kept; empty for one that is alone, or first."""

    @property
    def label(self) -> StemLabel:
        """How it is called: `Instrumental`; `Instrumental, demucs` beside another one."""
        name = label(self.stem)
        return StemLabel(f"{name.one}, {self.result}", f"{name.many}, {self.result}") if self.result else name


def derive(tags: TrackTags, derivation: Derivation) -> TrackTags:
    """The tags of the derived recording.

    Titles carry the version, and so does the album unless the policy is `same-album`, which a second result of a song
    cannot follow: its number in the album is taken. The source's MusicBrainz,
    AcoustID, ISRC and shop ids move to `IRONCLAD_SOURCE_*`; loudness tags go (see `with_replay_gain`); a missing album
    artist is filled, because Plex and Navidrome group by it.
    """
    name = derivation.label
    changes: dict[str, Any] = {
        "title": _versioned(tags.title, name.one) or name.one,
        "title_sort": _versioned(tags.title_sort, name.one),
        "album_artists": tags.album_artists or ((VARIOUS_ARTISTS,) if tags.compilation else tags.artists),
        "extra": _extra(tags, derivation),
    }
    if derivation.policy is AlbumPolicy.OWN_ALBUM or derivation.result:
        changes["album"] = _versioned(tags.album, name.many) or name.many
        changes["album_sort"] = _versioned(tags.album_sort, name.many)
    for entry in FIELDS:
        if _identifies(entry.key) or entry.key.startswith(_LOUDNESS_PREFIXES):
            changes[entry.name] = () if isinstance(getattr(tags, entry.name), tuple) else None
    return replace(tags, **changes)


def with_replay_gain(tags: TrackTags, *, integrated_lufs: float, peak: float) -> TrackTags:
    """`tags` with ReplayGain 2.0 values for this recording.

    `integrated_lufs` is the integrated loudness (ITU-R BS.1770), `peak` the linear peak (true peak where measured,
    1.0 = full scale). Silence gets no gain. Album values are left out: they need the whole album.
    """
    audible = math.isfinite(integrated_lufs) and integrated_lufs > _SILENCE_LUFS
    return replace(
        tags,
        replaygain_track_gain=f"{_REPLAYGAIN_LUFS - integrated_lufs:.2f} dB" if audible else None,
        replaygain_track_peak=f"{peak:.6f}" if math.isfinite(peak) else None,
        replaygain_album_gain=None,
        replaygain_album_peak=None,
        replaygain_reference_loudness=f"{_REPLAYGAIN_LUFS:.2f} LUFS" if audible else None,
    )


def path_fields(source: TrackTags, derivation: Derivation) -> dict[str, Any]:
    """The fields of a path template (see `ironclad.library.naming`) for a derived recording."""
    derived = derive(source, derivation)
    name = derivation.label
    return {
        "artist": derived.display_artist,
        "albumartist": ", ".join(derived.album_artists),
        "album": derived.album or "",
        "source_album": source.album or "",
        "title": derived.title or "",
        "source_title": source.title or "",
        "track": derived.track,
        "tracktotal": derived.track_total,
        "disc": derived.disc,
        "disctotal": derived.disc_total,
        "date": derived.date or "",
        "originaldate": derived.original_date or "",
        "genre": derived.genres[0] if derived.genres else "",
        "composer": ", ".join(derived.composers),
        "compilation": derived.compilation,
        "stem": name.one,
        "stems": name.many,
        "engine": derivation.engine,
    }


def _versioned(text: str | None, version: str) -> str | None:
    """`Title (Instrumental)`; unchanged where the name says so already."""
    if text is None:
        return None
    suffix = f"({version})"
    return text if text.lower().endswith(suffix.lower()) else f"{text} {suffix}"


def identity(tags: TrackTags) -> dict[str, Texts]:
    """The values that say which recording, release or artist this is to a server or a scrobbler, by canonical key."""
    return {key: tuple(values) for key, values in flatten(tags).items() if _identifies(key)}


def _identifies(key: str) -> bool:
    return key in _IDENTITY_KEYS or key.startswith(_IDENTITY_PREFIXES)


def _extra(tags: TrackTags, derivation: Derivation) -> dict[str, Texts]:
    extra = {
        key: tuple(values)
        for key, values in tags.extra.items()
        if not _identifies(key) and key not in _OWN and not key.startswith(_LOUDNESS_PREFIXES)
    }
    for key, values in identity(tags).items():
        # A source that is derived itself keeps its own source's ids.
        extra.setdefault(f"{SOURCE_PREFIX}{key}", values)
    own = {
        "IRONCLAD_JOB": derivation.job_uuid,
        "IRONCLAD_STEM": derivation.stem,
        "IRONCLAD_ENGINE": f"{derivation.engine} {derivation.engine_version}".strip(),
        "IRONCLAD_TRACE_ID": derivation.trace_id,
    }
    extra |= {key: (value,) for key, value in own.items() if value}
    if derivation.model_sha256:
        extra["IRONCLAD_MODEL_SHA256"] = derivation.model_sha256
    return dict(sorted(extra.items()))
