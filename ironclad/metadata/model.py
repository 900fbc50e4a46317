"""What Ironclad knows about a track: its tags in one vocabulary for all containers, and its pictures."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Mapping

SCHEMA = 1
"""Version of the JSON form of `TrackTags`; readers accept this one and older ones."""


class PictureType(enum.IntEnum):
    """What a picture shows: the numbers of ID3v2 APIC, which FLAC, Ogg and ASF share."""

    OTHER = 0
    FILE_ICON = 1
    OTHER_ICON = 2
    FRONT_COVER = 3
    BACK_COVER = 4
    LEAFLET = 5
    MEDIA = 6
    LEAD_ARTIST = 7
    ARTIST = 8
    CONDUCTOR = 9
    BAND = 10
    COMPOSER = 11
    LYRICIST = 12
    RECORDING_LOCATION = 13
    DURING_RECORDING = 14
    DURING_PERFORMANCE = 15
    SCREEN_CAPTURE = 16
    BRIGHT_FISH = 17
    ILLUSTRATION = 18
    BAND_LOGO = 19
    PUBLISHER_LOGO = 20

    @classmethod
    def of(cls, number: int) -> PictureType:
        """The type of a number found in a file; numbers that nobody defined are OTHER."""
        return cls(number) if 0 <= number <= cls.PUBLISHER_LOGO else cls.OTHER


@dataclass(frozen=True, slots=True)
class Picture:
    """One embedded picture. Its bytes are in `data` or in the file `path`; the JSON form refers to the file by name."""

    type: PictureType
    mime: str
    description: str = ""
    width: int = 0
    """Pixels; 0 where unknown."""
    height: int = 0
    path: Path | None = None
    data: bytes = field(default=b"", repr=False)

    def content(self) -> bytes:
        """The encoded picture. Raises OSError when its file cannot be read, ValueError when it has no bytes at all."""
        if self.data:
            return self.data
        if self.path is None:
            raise ValueError("the picture has neither bytes nor a file")
        return self.path.read_bytes()

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready data. Raises ValueError for a picture that is not in a file yet (see `stored`)."""
        if self.path is None:
            raise ValueError("only a picture in a file has a JSON form")
        return {
            "type": int(self.type),
            "mime": self.mime,
            "description": self.description,
            "width": self.width,
            "height": self.height,
            "file": self.path.name,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], folder: Path) -> Self:
        """The picture that `to_dict` described, its file being in `folder`.

        Raises ValueError when the name leads out of the folder.
        """
        name = str(data["file"])
        if not name or Path(name).name != name:
            raise ValueError(f"{name!r} is not the name of a file")
        return cls(
            type=PictureType.of(int(data["type"])),
            mime=str(data["mime"]),
            description=str(data["description"]),
            width=int(data["width"]),
            height=int(data["height"]),
            path=folder / name,
        )

    def stored(self, path: Path) -> Picture:
        """The same picture with its bytes in the file `path`, which is written."""
        path.write_bytes(self.content())
        return replace(self, path=path, data=b"")


@dataclass(frozen=True, slots=True)
class SyncedLine:
    """A line of synchronised lyrics and when it begins, in milliseconds from the start."""

    time_ms: int
    text: str


@dataclass(frozen=True, slots=True)
class Problem:
    """Something about a file's tags that could not be taken as it is. Never a reason to fail the job."""

    code: str
    """Kebab case, stable: `unreadable`, `value-too-long`, `not-an-image`, …"""
    key: str
    """The tag it is about, in canonical (Vorbis) spelling; empty for the file as a whole."""
    detail: str

    def to_dict(self) -> dict[str, str]:
        """JSON-ready data."""
        return {"code": self.code, "key": self.key, "detail": self.detail}

    @classmethod
    def from_dict(cls, data: Mapping[str, str]) -> Self:
        """What `to_dict` described."""
        return cls(str(data["code"]), str(data["key"]), str(data["detail"]))


Texts = tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackTags:
    """Every tag of one track. Text that may repeat is a tuple in the order of the source; absent is None or ().

    A value that does not fit its field (a second title, a track number "A1") is in `extra` under the field's key, and
    so is every tag that has no field. Keys of `extra` are upper-case Vorbis comment names (`ironclad.metadata.fields`).
    """

    title: str | None = None
    subtitle: str | None = None
    artists: Texts = ()
    album: str | None = None
    album_artists: Texts = ()
    track: int | None = None
    track_total: int | None = None
    disc: int | None = None
    disc_total: int | None = None
    disc_subtitle: str | None = None
    date: str | None = None
    """ISO 8601 as far as it is known: "2001", "2001-05", "2001-05-03"; other text is kept as it came."""
    original_date: str | None = None
    release_date: str | None = None
    genres: Texts = ()
    moods: Texts = ()
    comments: Texts = ()
    lyrics: str | None = None
    synced_lyrics: tuple[SyncedLine, ...] = ()
    compilation: bool = False

    composers: Texts = ()
    lyricists: Texts = ()
    conductors: Texts = ()
    performers: Texts = ()
    """`Name (instrument)` where the instrument is known."""
    arrangers: Texts = ()
    producers: Texts = ()
    engineers: Texts = ()
    mixers: Texts = ()
    dj_mixers: Texts = ()
    remixers: Texts = ()
    original_artists: Texts = ()
    original_album: str | None = None

    labels: Texts = ()
    publishers: Texts = ()
    catalogue_numbers: Texts = ()
    barcode: str | None = None
    isrcs: Texts = ()
    asin: str | None = None
    media: str | None = None
    copyright: str | None = None
    license: str | None = None
    website: str | None = None
    encoded_by: str | None = None
    release_country: str | None = None
    release_status: str | None = None
    release_types: Texts = ()

    languages: Texts = ()
    script: str | None = None
    bpm: str | None = None
    key: str | None = None
    grouping: str | None = None
    work: str | None = None
    movement: str | None = None
    movement_number: int | None = None
    movement_total: int | None = None

    title_sort: str | None = None
    album_sort: str | None = None
    artist_sorts: Texts = ()
    album_artist_sorts: Texts = ()
    composer_sorts: Texts = ()

    replaygain_track_gain: str | None = None
    replaygain_track_peak: str | None = None
    replaygain_album_gain: str | None = None
    replaygain_album_peak: str | None = None
    replaygain_reference_loudness: str | None = None

    musicbrainz_recording_id: str | None = None
    musicbrainz_track_id: str | None = None
    musicbrainz_album_id: str | None = None
    musicbrainz_release_group_id: str | None = None
    musicbrainz_work_ids: Texts = ()
    musicbrainz_disc_id: str | None = None
    musicbrainz_artist_ids: Texts = ()
    musicbrainz_album_artist_ids: Texts = ()
    acoustid_id: str | None = None
    acoustid_fingerprint: str | None = None

    extra: Mapping[str, Texts] = field(default_factory=dict)
    """Not to be changed in place: this object may be shared."""

    def present(self) -> dict[str, Any]:
        """The fields that have a value, by name, without `extra`."""
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "extra"}
        # Not by equality: a track number 0 equals False and is one.
        return {
            name: value for name, value in values.items() if value is not None and value is not False and value != ()
        }

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready data: present fields only, tuples as lists, synced lyrics as [milliseconds, text]."""
        data: dict[str, Any] = {"schema_version": SCHEMA}
        for name, value in self.present().items():
            if name == "synced_lyrics":
                data[name] = [[line.time_ms, line.text] for line in value]
            else:
                data[name] = list(value) if isinstance(value, tuple) else value
        if self.extra:
            data["extra"] = {key: list(values) for key, values in self.extra.items()}
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """What `to_dict` described. Unknown fields and newer schemas raise ValueError."""
        version = data.get("schema_version")
        if not isinstance(version, int) or not 1 <= version <= SCHEMA:
            raise ValueError(f"tags of schema {version!r} are not understood")
        known = {f.name for f in fields(cls)}
        values: dict[str, Any] = {}
        for name, value in data.items():
            if name == "schema_version":
                continue
            if name not in known:
                raise ValueError(f"there is no tag field {name!r}")
            if name == "extra":
                values[name] = {key: tuple(texts) for key, texts in value.items()}
            elif name == "synced_lyrics":
                values[name] = tuple(SyncedLine(int(time_ms), text) for time_ms, text in value)
            else:
                values[name] = tuple(value) if isinstance(value, list) else value
        return cls(**values)

    @property
    def display_artist(self) -> str:
        """All artists in one line, or the empty string."""
        return ", ".join(self.artists)
