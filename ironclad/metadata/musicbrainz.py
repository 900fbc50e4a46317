"""MusicBrainz' web service, or a mirror of it: recordings by id and by words, cached, one request a second.

The XML is parsed by musicbrainzngs' own parser; its transport is not used, because its rate limit and settings are
global to one process, and ours must hold for the whole installation. https://musicbrainz.org/doc/MusicBrainz_API
"""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import quote
from xml.etree.ElementTree import ParseError

import httpx
from musicbrainzngs import mbxml

from ironclad.metadata.cache import DAY
from ironclad.metadata.candidate import Candidate, from_recording
from ironclad.metadata.http import LONGEST_ID, CachedService, Manners

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ironclad.metadata.cache import Cache
    from ironclad.metadata.rate import Gate

_INCLUDES = "artist-credits+releases+release-groups+media+isrcs"
_SEARCH_LIMIT = "25"
_LONGEST_WORDS = 200
"""Characters of a title or name to search by: servers refuse long addresses, and nothing shorter is mistaken for it."""
_LUCENE = frozenset('+-&|!(){}[]^"~*?:\\/')


@dataclass(frozen=True, slots=True)
class Service:
    """Where to ask, how, and how long answers are kept."""

    url: str = "https://musicbrainz.org"
    manners: Manners = field(default_factory=Manners)
    keep_seconds: float = 30 * DAY
    keep_missing_seconds: float = 3 * DAY
    """Somebody may add the recording tomorrow."""


class MusicBrainz(CachedService):
    """Asks for recordings. Every call may raise `MetadataServiceUnavailable`, and what `check` raises while waiting."""

    def __init__(self, service: Service, gate: Gate, cache: Cache, *, check: Callable[[], None] | None = None) -> None:
        super().__init__(service.manners, gate, cache, accept="application/xml", check=check)
        self._service = service

    def recording(self, recording_id: str) -> tuple[Candidate, ...]:
        """The releases of one recording; empty if there is no such recording."""
        if len(recording_id) > LONGEST_ID:
            return ()
        found = self._ask(f"/ws/2/recording/{quote(recording_id, safe='')}", {"inc": _INCLUDES})
        return _candidates([found["recording"]]) if found and "recording" in found else ()

    def search(self, *, title: str, artist: str, album: str = "", album_id: str = "") -> tuple[Candidate, ...]:
        """Recordings by words, and those on one release if its id is known."""
        reid = album_id if len(album_id) <= LONGEST_ID else ""
        terms = {"recording": title, "artist": artist, "reid": reid, "release": "" if reid else album}
        query = " AND ".join(f'{name}:"{_escaped(_begun(text))}"' for name, text in terms.items() if text)
        found = self._ask("/ws/2/recording", {"query": query, "limit": _SEARCH_LIMIT})
        return _candidates(found.get("recording-list", [])) if found else ()

    def _ask(self, path: str, parameters: Mapping[str, str]) -> dict[str, Any] | None:
        """The parsed answer, from the cache or the service; None where the service knows nothing."""
        url = httpx.URL(self._service.url.rstrip("/") + path, params=dict(parameters))
        key = f"musicbrainz {url}"
        cached = self._cache.get(key)
        if cached is not None:
            try:
                return None if cached.content is None else _parsed(cached.content)
            except ValueError:
                pass  # kept by a version that understood it: ask again
        content = self._client.get(url, _parsed)
        parsed = None if content is None else _parsed(content)
        self._cache.put(key, content, seconds=self._lifetime(parsed))
        return parsed

    def _lifetime(self, parsed: dict[str, Any] | None) -> float:
        found = parsed is not None and ("recording" in parsed or parsed.get("recording-list"))
        return self._service.keep_seconds if found else self._service.keep_missing_seconds


def _parsed(content: bytes) -> dict[str, Any]:
    """The data of MusicBrainz' XML (musicbrainz.org/ns/mmd-2.0#). Raises ValueError for anything else."""
    try:
        found = mbxml.parse_message(io.BytesIO(content))
    except (ParseError, ValueError, KeyError, AttributeError, TypeError) as exc:
        raise ValueError(f"not MusicBrainz' XML: {exc}") from exc
    if not isinstance(found, dict) or not {"recording", "recording-list"} & found.keys():
        raise ValueError("not an answer about recordings")
    return found


def _candidates(recordings: list[Any]) -> tuple[Candidate, ...]:
    """Candidates of parsed recordings; one of a shape that is not understood is left out."""
    found: list[Candidate] = []
    for recording in recordings:
        try:
            found += from_recording(recording)
        except (KeyError, TypeError, ValueError, AttributeError):
            continue
    return tuple(found)


def _begun(text: str) -> str:
    """As many whole words from the beginning as a search needs: tags may hold a whole novel."""
    return text if len(text) <= _LONGEST_WORDS else text[:_LONGEST_WORDS].rpartition(" ")[0] or text[:_LONGEST_WORDS]


def _escaped(text: str) -> str:
    """Text inside a quoted Lucene phrase."""
    return "".join(f"\\{character}" if character in _LUCENE else character for character in text)
