"""The vocabulary: which field of `TrackTags` is called what in each tagging format.

The canonical key of a field is its Vorbis comment name; `Raw` (canonical key → values) is what every reader produces
and every writer takes. The names follow MusicBrainz Picard's published tag mapping, which Navidrome, Jellyfin and beets
follow too, so that what Ironclad writes is what they look for.
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass, fields
from typing import Any

from ironclad.metadata.model import SyncedLine, TrackTags

Raw = dict[str, list[str]]
"""Canonical key → values in order, as a reader found them or as a writer shall write them."""


class Kind(enum.Enum):
    """How a field's text becomes its value."""

    TEXT = "one text"
    TEXTS = "texts"
    NUMBER = "a whole number, perhaps with a total"
    FLAG = "yes or no"
    SYNCED = "LRC text"


@dataclass(frozen=True, slots=True)
class Field:
    """One field and its names. An empty name means the format's free-form place under the canonical key."""

    name: str
    key: str
    kind: Kind = Kind.TEXT
    id3: str = ""
    """Frame of ID3v2.4; `TXXX:description`, `UFID:owner`, `TIPL:role`."""
    mp4: str = ""
    """Atom, or the name after `----:com.apple.iTunes:`."""
    ape: str = ""
    asf: str = ""
    aliases: tuple[str, ...] = ()
    """Other Vorbis comment names found in the wild; read, never written."""


def _f(name: str, key: str, kind: Kind, id3: str, mp4: str, ape: str, asf: str, *aliases: str) -> Field:  # noqa: PLR0917 -- a row of the table below
    return Field(name, key, kind, id3, mp4, ape, asf, aliases)


_T, _M, _N = Kind.TEXT, Kind.TEXTS, Kind.NUMBER

# fmt: off
FIELDS: tuple[Field, ...] = (
    #  field, canonical key, kind, ID3v2.4, MP4, APEv2, ASF, aliases
    _f("title", "TITLE", _T, "TIT2", "©nam", "Title", "Title"),
    _f("subtitle", "SUBTITLE", _T, "TIT3", "", "Subtitle", "WM/SubTitle"),
    _f("artists", "ARTIST", _M, "TPE1", "©ART", "Artist", "Author"),
    _f("album", "ALBUM", _T, "TALB", "©alb", "Album", "WM/AlbumTitle"),
    _f("album_artists", "ALBUMARTIST", _M, "TPE2", "aART", "Album Artist", "WM/AlbumArtist",
       "ALBUM ARTIST", "ALBUM_ARTIST"),
    _f("track", "TRACKNUMBER", _N, "TRCK", "trkn", "Track", "WM/TrackNumber", "TRACK", "TRACKNUM"),
    _f("track_total", "TRACKTOTAL", _N, "TRCK", "trkn", "", "", "TOTALTRACKS", "TRACKC"),
    _f("disc", "DISCNUMBER", _N, "TPOS", "disk", "Disc", "WM/PartOfSet", "DISC", "DISCNUM"),
    _f("disc_total", "DISCTOTAL", _N, "TPOS", "disk", "", "", "TOTALDISCS", "DISCC"),
    _f("disc_subtitle", "DISCSUBTITLE", _T, "TSST", "", "DiscSubtitle", "WM/SetSubTitle"),
    _f("date", "DATE", _T, "TDRC", "©day", "Year", "WM/Year", "YEAR"),
    _f("original_date", "ORIGINALDATE", _T, "TDOR", "ORIGINALDATE", "", "WM/OriginalReleaseTime", "ORIGINALYEAR"),
    _f("release_date", "RELEASEDATE", _T, "TDRL", "", "", ""),
    _f("genres", "GENRE", _M, "TCON", "©gen", "Genre", "WM/Genre"),
    _f("moods", "MOOD", _M, "TMOO", "", "Mood", "WM/Mood"),
    _f("comments", "COMMENT", _M, "COMM", "©cmt", "Comment", "Description"),
    _f("lyrics", "LYRICS", _T, "USLT", "©lyr", "Lyrics", "WM/Lyrics", "UNSYNCEDLYRICS", "UNSYNCED LYRICS"),
    _f("synced_lyrics", "SYNCEDLYRICS", Kind.SYNCED, "SYLT", "", "", "", "SYNCED LYRICS"),
    _f("compilation", "COMPILATION", Kind.FLAG, "TCMP", "cpil", "Compilation", "WM/IsCompilation"),
    _f("composers", "COMPOSER", _M, "TCOM", "©wrt", "Composer", "WM/Composer"),
    _f("lyricists", "LYRICIST", _M, "TEXT", "", "Lyricist", "WM/Writer"),
    _f("conductors", "CONDUCTOR", _M, "TPE3", "", "Conductor", "WM/Conductor"),
    _f("performers", "PERFORMER", _M, "TMCL", "", "Performer", ""),
    _f("arrangers", "ARRANGER", _M, "TIPL:arranger", "", "Arranger", "WM/Arranger"),
    _f("producers", "PRODUCER", _M, "TIPL:producer", "", "Producer", "WM/Producer"),
    _f("engineers", "ENGINEER", _M, "TIPL:engineer", "", "Engineer", "WM/Engineer"),
    _f("mixers", "MIXER", _M, "TIPL:mix", "", "Mixer", "WM/Mixer"),
    _f("dj_mixers", "DJMIXER", _M, "TIPL:DJ-mix", "", "DJMixer", "WM/DJMixer"),
    _f("remixers", "REMIXER", _M, "TPE4", "", "MixArtist", "WM/ModifiedBy"),
    _f("original_artists", "ORIGINALARTIST", _M, "TOPE", "", "Original Artist", "WM/OriginalArtist"),
    _f("original_album", "ORIGINALALBUM", _T, "TOAL", "", "", "WM/OriginalAlbumTitle"),
    _f("labels", "LABEL", _M, "TPUB", "", "Label", "WM/Publisher"),
    _f("publishers", "PUBLISHER", _M, "", "", "Publisher", "PUBLISHER"),
    _f("catalogue_numbers", "CATALOGNUMBER", _M, "", "", "CatalogNumber", "WM/CatalogNo"),
    _f("barcode", "BARCODE", _T, "", "", "Barcode", "WM/Barcode"),
    _f("isrcs", "ISRC", _M, "TSRC", "", "ISRC", "WM/ISRC"),
    _f("asin", "ASIN", _T, "", "", "ASIN", "ASIN"),
    _f("media", "MEDIA", _T, "TMED", "", "Media", "WM/Media"),
    _f("copyright", "COPYRIGHT", _T, "TCOP", "cprt", "Copyright", "Copyright"),
    _f("license", "LICENSE", _T, "WCOP", "", "LICENSE", "LICENSE"),
    _f("website", "WEBSITE", _T, "WOAR", "", "Weblink", "WM/AuthorURL"),
    _f("encoded_by", "ENCODEDBY", _T, "TENC", "", "EncodedBy", "WM/EncodedBy", "ENCODED-BY", "ENCODED BY"),
    _f("release_country", "RELEASECOUNTRY", _T, "TXXX:MusicBrainz Album Release Country",
       "MusicBrainz Album Release Country", "", "MusicBrainz/Album Release Country"),
    _f("release_status", "RELEASESTATUS", _T, "TXXX:MusicBrainz Album Status", "MusicBrainz Album Status",
       "MUSICBRAINZ_ALBUMSTATUS", "MusicBrainz/Album Status", "MUSICBRAINZ_ALBUMSTATUS"),
    _f("release_types", "RELEASETYPE", _M, "TXXX:MusicBrainz Album Type", "MusicBrainz Album Type",
       "MUSICBRAINZ_ALBUMTYPE", "MusicBrainz/Album Type", "MUSICBRAINZ_ALBUMTYPE"),
    _f("languages", "LANGUAGE", _M, "TLAN", "", "Language", "WM/Language"),
    _f("script", "SCRIPT", _T, "", "", "Script", "WM/Script"),
    _f("bpm", "BPM", _T, "TBPM", "tmpo", "BPM", "WM/BeatsPerMinute", "TEMPO"),
    _f("key", "KEY", _T, "TKEY", "initialkey", "KEY", "WM/InitialKey", "INITIALKEY", "INITIAL KEY"),
    _f("grouping", "GROUPING", _T, "TIT1", "©grp", "Grouping", "WM/ContentGroupDescription", "CONTENTGROUP"),
    _f("work", "WORK", _T, "", "©wrk", "WORK", "WM/Work"),
    _f("movement", "MOVEMENTNAME", _T, "MVNM", "©mvn", "MOVEMENTNAME", ""),
    _f("movement_number", "MOVEMENT", _N, "MVIN", "©mvi", "MOVEMENT", ""),
    _f("movement_total", "MOVEMENTTOTAL", _N, "MVIN", "©mvc", "MOVEMENTTOTAL", ""),
    _f("title_sort", "TITLESORT", _T, "TSOT", "sonm", "TITLESORT", "WM/TitleSortOrder"),
    _f("album_sort", "ALBUMSORT", _T, "TSOA", "soal", "ALBUMSORT", "WM/AlbumSortOrder"),
    _f("artist_sorts", "ARTISTSORT", _M, "TSOP", "soar", "ARTISTSORT", "WM/ArtistSortOrder"),
    _f("album_artist_sorts", "ALBUMARTISTSORT", _M, "TSO2", "soaa", "ALBUMARTISTSORT", "WM/AlbumArtistSortOrder"),
    _f("composer_sorts", "COMPOSERSORT", _M, "TSOC", "soco", "COMPOSERSORT", "WM/ComposerSortOrder"),
    _f("replaygain_track_gain", "REPLAYGAIN_TRACK_GAIN", _T, "", "", "", ""),
    _f("replaygain_track_peak", "REPLAYGAIN_TRACK_PEAK", _T, "", "", "", ""),
    _f("replaygain_album_gain", "REPLAYGAIN_ALBUM_GAIN", _T, "", "", "", ""),
    _f("replaygain_album_peak", "REPLAYGAIN_ALBUM_PEAK", _T, "", "", "", ""),
    _f("replaygain_reference_loudness", "REPLAYGAIN_REFERENCE_LOUDNESS", _T, "", "", "", ""),
    # The recording's id is called "track id" in files, for reasons of history; the track's own is the release track id.
    _f("musicbrainz_recording_id", "MUSICBRAINZ_TRACKID", _T, "UFID:http://musicbrainz.org", "MusicBrainz Track Id",
       "", "MusicBrainz/Track Id"),
    _f("musicbrainz_track_id", "MUSICBRAINZ_RELEASETRACKID", _T, "TXXX:MusicBrainz Release Track Id",
       "MusicBrainz Release Track Id", "", "MusicBrainz/Release Track Id"),
    _f("musicbrainz_album_id", "MUSICBRAINZ_ALBUMID", _T, "TXXX:MusicBrainz Album Id", "MusicBrainz Album Id", "",
       "MusicBrainz/Album Id"),
    _f("musicbrainz_release_group_id", "MUSICBRAINZ_RELEASEGROUPID", _T, "TXXX:MusicBrainz Release Group Id",
       "MusicBrainz Release Group Id", "", "MusicBrainz/Release Group Id"),
    _f("musicbrainz_work_ids", "MUSICBRAINZ_WORKID", _M, "TXXX:MusicBrainz Work Id", "MusicBrainz Work Id", "",
       "MusicBrainz/Work Id"),
    _f("musicbrainz_disc_id", "MUSICBRAINZ_DISCID", _T, "TXXX:MusicBrainz Disc Id", "MusicBrainz Disc Id", "",
       "MusicBrainz/Disc Id"),
    _f("musicbrainz_artist_ids", "MUSICBRAINZ_ARTISTID", _M, "TXXX:MusicBrainz Artist Id", "MusicBrainz Artist Id", "",
       "MusicBrainz/Artist Id"),
    _f("musicbrainz_album_artist_ids", "MUSICBRAINZ_ALBUMARTISTID", _M, "TXXX:MusicBrainz Album Artist Id",
       "MusicBrainz Album Artist Id", "", "MusicBrainz/Album Artist Id"),
    _f("acoustid_id", "ACOUSTID_ID", _T, "TXXX:Acoustid Id", "Acoustid Id", "", "Acoustid/Id"),
    _f("acoustid_fingerprint", "ACOUSTID_FINGERPRINT", _T, "TXXX:Acoustid Fingerprint", "Acoustid Fingerprint", "",
       "Acoustid/Fingerprint"),
)
# fmt: on

MULTILINE = frozenset({"COMMENT", "LYRICS", "SYNCEDLYRICS", "DESCRIPTION", "CUESHEET"})
"""Keys (or their part before a colon) whose text may have line breaks."""

_TOTAL_OF = {"TRACKNUMBER": "TRACKTOTAL", "DISCNUMBER": "DISCTOTAL", "MOVEMENT": "MOVEMENTTOTAL"}
_NUMBER = re.compile(r"\s*(\d{0,9})\s*(?:(?:/|of)\s*(\d{1,9})\s*)?", re.ASCII | re.IGNORECASE)
_LRC = re.compile(r"\[(\d{1,3}):(\d{2})(?:[.:](\d{1,3}))?\]", re.ASCII)


def canonical(key: str) -> str:
    """The canonical spelling of a free-form key: upper case, one space between words."""
    return " ".join(key.upper().split())


def parse_lrc(text: str) -> tuple[SyncedLine, ...]:
    """The timed lines of LRC text, in order of time; lines without a time are left out.

    >>> parse_lrc("[00:12.50]Hello")
    (SyncedLine(time_ms=12500, text='Hello'),)
    """
    lines: list[SyncedLine] = []
    for line in text.splitlines():
        stamps = []
        rest = line.strip()
        while match := _LRC.match(rest):
            minutes, seconds, fraction = match.groups()
            stamps.append(int(minutes) * 60_000 + int(seconds) * 1000 + int((fraction or "0").ljust(3, "0")))
            rest = rest[match.end() :]
        lines += [SyncedLine(stamp, rest.strip()) for stamp in stamps]
    return tuple(sorted(lines, key=lambda line: line.time_ms))


def format_lrc(lines: tuple[SyncedLine, ...]) -> str:
    """LRC text with milliseconds: `[mm:ss.mmm]text`."""
    return "\n".join(
        f"[{line.time_ms // 60_000:02}:{line.time_ms // 1000 % 60:02}.{line.time_ms % 1000:03}]{line.text}"
        for line in lines
    )


def build(raw: Raw) -> TrackTags:
    """The tags of canonical keys and values; what does not fit a field stays in `extra`."""
    left = {key: list(values) for key, values in raw.items() if values}
    _resolve_aliases(left)
    _split_totals(left)
    values: dict[str, Any] = {}
    for entry in FIELDS:
        texts = left.pop(entry.key, [])
        value, rest = _value(entry.kind, texts)
        if value is not None:
            values[entry.name] = value
        if rest:
            left[entry.key] = rest
    return TrackTags(**values, extra={key: tuple(texts) for key, texts in sorted(left.items())})


def flatten(tags: TrackTags) -> Raw:
    """Canonical keys and values of tags: the inverse of `build`."""
    raw: Raw = {}
    for entry in FIELDS:
        value = getattr(tags, entry.name)
        match entry.kind:
            case Kind.TEXT:
                texts = [value] if value is not None else []
            case Kind.TEXTS:
                texts = list(value)
            case Kind.NUMBER:
                texts = [str(value)] if value is not None else []
            case Kind.FLAG:
                texts = ["1"] if value else []
            case Kind.SYNCED:
                texts = [format_lrc(value)] if value else []
        if texts:
            raw[entry.key] = texts
    for key, extra in tags.extra.items():
        raw[key] = raw.get(key, []) + list(extra)
    return raw


def merge(first: TrackTags, second: TrackTags) -> TrackTags:
    """`first`, with the fields and extra keys that it lacks taken from `second`."""
    values = second.present() | first.present()
    extra = dict(second.extra) | dict(first.extra)
    return TrackTags(**values, extra=dict(sorted(extra.items())))


def _resolve_aliases(left: Raw) -> None:
    for entry in FIELDS:
        for alias in entry.aliases:
            if alias not in left or alias == entry.key:
                continue
            if entry.key not in left:
                left[entry.key] = left.pop(alias)
            elif left[alias] == left[entry.key]:
                del left[alias]


def _split_totals(left: Raw) -> None:
    for number, total in _TOTAL_OF.items():
        match = _NUMBER.fullmatch(left[number][0]) if left.get(number) else None
        if match and match[2] is not None:
            left[number][0] = match[1]
            left.setdefault(total, [match[2]])
            if not match[1]:
                del left[number][0]


def _value(kind: Kind, texts: list[str]) -> tuple[Any, list[str]]:
    """A field's value of its texts (None: absent), and the texts that did not fit."""
    if not texts:
        return None, []
    value: Any = None
    rest = texts[1:]
    match kind:
        case Kind.TEXTS:
            value, rest = tuple(dict.fromkeys(texts)), []
        case Kind.TEXT:
            value, rest = texts[0], [text for text in dict.fromkeys(rest) if text != texts[0]]
        case Kind.NUMBER:
            number = _NUMBER.fullmatch(texts[0])
            value = int(number[1]) if number and number[1] else None
        case Kind.FLAG:
            value = True if texts[0].strip().lower() in {"1", "true", "yes"} else None
            # "0" says what absence says; anything else is not for us to judge.
            rest = rest if value or texts[0].strip().lower() in {"0", "false", "no"} else texts
        case Kind.SYNCED:
            value, rest = _synced("\n".join(texts))
    return value, rest if value is not None or kind is Kind.FLAG else texts


def _synced(text: str) -> tuple[Any, list[str]]:
    lines = parse_lrc(text)
    untimed = "\n".join(line for line in text.splitlines() if line.strip() and not _LRC.match(line.strip()))
    return lines or None, [untimed] if untimed else []


FIELD_NAMES = frozenset(entry.name for entry in FIELDS)
"""Names of the fields; the tests hold it equal to those of `TrackTags`."""

BY_KEY = {entry.key: entry for entry in FIELDS}
"""The field of a canonical key."""

TAG_FIELDS = tuple(f.name for f in fields(TrackTags) if f.name != "extra")
"""Fields of `TrackTags` in order, without `extra`."""
