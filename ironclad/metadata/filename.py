"""What the names of a file and its folders say about the track, for the tags that are missing.

Reads the layouts that rippers, stores and people produce: `Artist/Album/01 - Title`, `Artist - Album (2001)/01 Title`,
`Artist - Title`, `1-03 Title`, disc folders (`CD2`), underscores for spaces, and scene names
(`01-artist_name-some_title`, `Artist-Album-2001-GRP`). A guess never replaces a tag.
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ironclad.metadata.fields import merge
from ironclad.metadata.model import TrackTags
from ironclad.metadata.text import clean

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import PurePath

VARIOUS_ARTISTS = "Various Artists"


class Origin(enum.StrEnum):
    """Where a value came from."""

    TAG = "tag"
    FILENAME = "filename"
    FOLDER = "folder"
    MUSICBRAINZ = "musicbrainz"


@dataclass(frozen=True, slots=True)
class Guess:
    """What the names say, and which of them said it, by the name of the field."""

    tags: TrackTags
    origins: Mapping[str, Origin] = field(default_factory=dict)


_DASH = re.compile(r"\s+[-\u2013\u2014]+\s+")
_DISC_TRACK = re.compile(r"(?P<disc>[1-9])[-.](?P<track>\d{2})(?:\s*[-.)]\s*|\s+)(?P<rest>\S.*)")
_MARKED = re.compile(
    r"(?:\((?P<a>\d{1,3})\)|\[(?P<b>\d{1,3})\]|(?P<c>\d{1,3})\s*(?:[.)]|[-\u2013\u2014](?=\s)))\s*(?P<rest>\S.*)"
)
_BARE = re.compile(r"(?P<track>\d{2})\s+(?P<rest>\S.*)")
_MAX_BARE = 30
"""`07 Title` and `12 Title` begin with a track number, `99 Luftballons` does not."""
_ONLY_NUMBER = re.compile(r"(?:track\s*|titel\s*|piste\s*)?(?P<track>\d{1,2})", re.IGNORECASE)
_SCENE_FILE = re.compile(r"(?:(?P<track>\d{2,3})-)?(?P<artist>[^\s-]+)-(?P<title>[^\s-]+)")
_SCENE_FOLDER = re.compile(r"(?P<artist>[^\s-]+)-(?P<album>\S+?)-(?:[A-Z0-9()]+-)*(?P<year>(?:19|20)\d\d)-\w+")
_DISC_FOLDER = re.compile(r"(?:cd|disc|disk|disque)[\s._-]*(?P<disc>\d{1,2})\b.*", re.IGNORECASE)
_DISC_SUFFIX = re.compile(
    r"(?P<album>.*\S)[\s,-]*[(\[]?\b(?:cd|disc|disk)[\s._]*(?P<disc>\d{1,2})[)\]]?", re.IGNORECASE
)
_YEAR = r"(?P<year>(?:19|20)\d\d)"
_YEAR_LAST = re.compile(rf"(?P<rest>.*\S)\s*[(\[]{_YEAR}(?:-\d\d(?:-\d\d)?)?[)\]]")
_YEAR_FIRST = re.compile(rf"(?:[(\[]{_YEAR}[)\]]\s*|{_YEAR.replace('year', 'bare')}\s+[-\u2013]\s+)(?P<rest>\S.*)")
_ALBUM_NUMBER = re.compile(r"\d{1,2}")
_NOISE = re.compile(
    r"\s*[(\[{](?:flac|mp3|wav|aac|alac|ogg|opus|web|cd|vinyl|lossless|hi-?res|v0|v2|cbr|vbr|\d{2,3}\s*k(?:bps)?"
    r"|\d\d[-/ ]\d{2,3}(?:\.\d)?)(?:[\s,-][^)\]}]*)?[)\]}]",
    re.IGNORECASE,
)
_VERSION = re.compile(
    r"(?:live|remix|mix|version|edit|remaster(?:ed)?|demo|acoustic|instrumental|reprise|interlude|part|pt\.?|outro)\b"
    r"|.*\b(?:remix|mix|version|edit|remaster(?:ed)?|demo)$",
    re.IGNORECASE,
)
_VARIOUS = frozenset({"va", "v.a.", "various", "various artists", "compilations", "compilation", "soundtracks"})
_GENERIC = frozenset({
    "music", "musik", "musique", "albums", "artists", "audio", "downloads", "download", "new folder", "input",
    "incoming", "songs", "tracks", "singles", "flac", "mp3", "lossless", "media", "library", "unknown artist",
    "unknown album", "unsorted", "misc", "itunes", "itunes media",
})  # fmt: skip


def complete(tags: TrackTags, path: PurePath) -> Guess:
    """`tags` with what is missing taken from `path`, which is relative to the user's watch folder.

    The origins name every field that has a value.
    """
    guess = from_path(path)
    named = guess.tags
    if tags.compilation and named.album_artists != (VARIOUS_ARTISTS,):
        named = replace(named, album_artists=())  # the tag says that it is nobody's album in particular
    merged = merge(tags, named)
    present = tags.present()
    origins = {name: Origin.TAG if name in present else guess.origins[name] for name in merged.present()}
    return Guess(merged, origins)


def from_path(path: PurePath) -> Guess:
    """All that the names of a file and its folders say."""
    folders = _from_folders([_spaced(clean(name)[0]) for name in path.parts[:-1]], [*path.parts[:-1]])
    name = _from_stem(clean(path.stem)[0], folders)
    if "artist" in folders and "album" not in folders and "track" in name and not folders.get("certain"):
        # One folder with numbered files in it is an album; with plain files it is an artist.
        folders["album"] = folders.pop("artist")
    values: dict[str, tuple[Any, Origin]] = {}

    def put(field_name: str, value: Any, origin: Origin) -> None:
        if value not in (None, "") and field_name not in values:
            values[field_name] = (value, origin)

    put("title", name.get("title"), Origin.FILENAME)
    for key, number in (("track", name.get("track")), ("disc", name.get("disc"))):
        put(key, int(number) if number else None, Origin.FILENAME)
    for source, origin in ((name, Origin.FILENAME), (folders, Origin.FOLDER)):
        various = source.get("artist", "").lower() in _VARIOUS
        if source.get("artist") and not various:
            put("artists", (source["artist"],), origin)
        put("album", source.get("album"), origin)
        put("date", source.get("year"), origin)
        if various:
            put("compilation", True, origin)
            put("album_artists", (VARIOUS_ARTISTS,), origin)
    if folders.get("artist"):
        put("album_artists", (folders["artist"],), Origin.FOLDER)
    put("disc", int(folders["disc"]) if folders.get("disc") else None, Origin.FOLDER)
    return Guess(
        TrackTags(**{key: value for key, (value, _) in values.items()}),
        {key: origin for key, (_, origin) in values.items()},
    )


def _spaced(name: str) -> str:
    """Underscores or dots back to spaces, in names that have no spaces."""
    if " " in name:
        return name.strip()
    if "_" in name:
        return name.replace("_", " ").strip()
    return name.replace(".", " ").strip() if name.count(".") > 1 else name


def _from_stem(stem: str, folders: Mapping[str, str]) -> dict[str, str]:
    if " " not in stem and "_" in stem and (match := _SCENE_FILE.fullmatch(stem)):
        return {key: value.replace("_", " ").strip() for key, value in match.groupdict().items() if value}
    name = _spaced(stem)
    if match := _ONLY_NUMBER.fullmatch(name):
        return {"track": match["track"], "title": name} if not name.isdigit() or name[0] == "0" else {"title": name}
    found, rest = _track_prefix(name)
    return found | _credits(_DASH.split(rest), folders, found)


def _track_prefix(name: str) -> tuple[dict[str, str], str]:
    if match := _DISC_TRACK.fullmatch(name):
        return {"disc": match["disc"], "track": match["track"]}, match["rest"]
    if match := _MARKED.fullmatch(name):
        return {"track": match["a"] or match["b"] or match["c"]}, match["rest"]
    if (match := _BARE.fullmatch(name)) and int(match["track"]) <= _MAX_BARE:
        return {"track": match["track"]}, match["rest"]
    return {}, name


def _credits(parts: list[str], folders: Mapping[str, str], found: Mapping[str, str]) -> dict[str, str]:
    """Artist, album and title among the parts between dashes."""
    result: dict[str, str] = {}
    if "track" not in found:
        number = next((part for part in parts[1:-1] if part.isdigit() and len(part) <= 3), None)  # noqa: PLR2004 -- a track number
        if number is not None:
            result["track"] = number
            parts = [part for part in parts if part is not number]
    known = folders.get("artist", "").lower()
    if len(parts) == 1 or (parts[0].lower() != known and known not in {"", *_VARIOUS} and _VERSION.match(parts[-1])):
        return result | {"title": " - ".join(parts)}
    if len(parts) == 2 or (parts[0].lower() != known and "album" in folders):  # noqa: PLR2004 -- artist and title
        return result | {"artist": parts[0], "title": " - ".join(parts[1:])}
    return result | {"artist": parts[0], "album": parts[1], "title": " - ".join(parts[2:])}


def _from_folders(names: list[str], originals: list[str]) -> dict[str, str]:
    result: dict[str, str] = {}
    while names and names[-1].lower() in _GENERIC:
        names.pop()
        originals.pop()
    if names and (match := _DISC_FOLDER.fullmatch(names[-1])):
        result["disc"] = match["disc"]
        names, originals = names[:-1], originals[:-1]
    if not names:
        return result
    album = _from_album_folder(names[-1], originals[-1])
    result = album | result
    parents = [name for name in names[:-1] if name.lower() not in _GENERIC and len(name) > 1]
    if "artist" in result:
        result["certain"] = "yes"
    elif parents:
        result["artist"] = parents[-1]
    elif "year" not in result and "disc" not in result:
        # A single folder: artist or album; `from_path` decides by the file's name.
        result["artist"] = result.pop("album")
    return result


def _from_album_folder(name: str, original: str) -> dict[str, str]:
    if match := _SCENE_FOLDER.fullmatch(original):
        found = match.groupdict()
        return {key: value.replace("_", " ") for key, value in found.items()}
    result: dict[str, str] = {}
    name = _NOISE.sub("", name).strip() or name
    if match := _DISC_SUFFIX.fullmatch(name):
        result["disc"], name = match["disc"], match["album"].rstrip(" ,-([")
    if match := _YEAR_LAST.fullmatch(name):
        result["year"], name = match["year"], match["rest"]
    elif match := _YEAR_FIRST.fullmatch(name):
        result["year"], name = match["year"] or match["bare"], match["rest"]
    parts = _DASH.split(name)
    year = next((part for part in parts[1:-1] if re.fullmatch(_YEAR, part)), None)
    if year is not None:
        result.setdefault("year", year)
        parts = [part for part in parts if part is not year]
    if len(parts) > 1 and _ALBUM_NUMBER.fullmatch(parts[0]):
        parts = parts[1:]  # `03 - Album`: the albums of an artist in their order
    if len(parts) > 1:
        return result | {"artist": parts[0], "album": " - ".join(parts[1:])}
    return result | {"album": parts[0]}
