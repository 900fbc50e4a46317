"""Front covers from the Cover Art Archive, kept in `cover-art-cache/`.

https://musicbrainz.org/doc/Cover_Art_Archive/API
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import quote

import httpx

from ironclad.metadata import images
from ironclad.metadata.cache import DAY
from ironclad.metadata.http import LONGEST_ID, CachedService, Manners
from ironclad.metadata.model import Picture, PictureType

if TYPE_CHECKING:
    from collections.abc import Callable

    from ironclad.metadata.cache import Cache
    from ironclad.metadata.rate import Gate

_MIB = 1 << 20
_TAIL = 1024


@dataclass(frozen=True, slots=True)
class Archive:
    """Where to ask, how, and how long covers are kept."""

    url: str = "https://coverartarchive.org"
    size: int = 1200
    """250, 500 or 1200: the archive's thumbnails, whose longest side is so many pixels."""
    manners: Manners = field(default_factory=lambda: Manners(interval=0.0, max_bytes=16 * _MIB))
    keep_seconds: float = 365 * DAY
    keep_missing_seconds: float = 14 * DAY


class CoverArt(CachedService):
    """Asks for covers. Every call may raise `MetadataServiceUnavailable`, and what `check` raises while waiting."""

    def __init__(self, archive: Archive, gate: Gate, cache: Cache, *, check: Callable[[], None] | None = None) -> None:
        super().__init__(archive.manners, gate, cache, accept="image/*", check=check)
        self._archive = archive

    def front(self, *, album_id: str | None = None, release_group_id: str | None = None) -> Picture | None:
        """The front cover of a release, else of its release group; None if the archive has neither."""
        for kind, mbid in (("release", album_id), ("release-group", release_group_id)):
            content = self._content(kind, mbid) if mbid and len(mbid) <= LONGEST_ID else None
            info = images.identify(content) if content else None
            if content and info:
                return Picture(PictureType.FRONT_COVER, info.mime, "", info.width, info.height, data=content)
        return None

    def _content(self, kind: str, mbid: str) -> bytes | None:
        url = httpx.URL(f"{self._archive.url.rstrip('/')}/{kind}/{quote(mbid, safe='')}/front-{self._archive.size}")
        key = f"coverart {url}"
        cached = self._cache.get(key)
        if cached is not None:
            return cached.content
        content = self._client.get(url, _image)
        keep = self._archive.keep_seconds if content else self._archive.keep_missing_seconds
        self._cache.put(key, content, seconds=keep)
        return content


def _image(content: bytes) -> None:
    """Raise ValueError unless it is a whole JPEG or PNG."""
    info = images.identify(content)
    # The end marker of JPEG or PNG; some encoders leave a few bytes after it.
    whole = b"\xff\xd9" in content[-_TAIL:] or b"IEND" in content[-_TAIL:]
    if info is None or info.mime not in {images.JPEG, images.PNG} or not whole:
        raise ValueError("not a whole picture")
