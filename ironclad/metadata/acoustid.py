"""AcoustID's web service: which MusicBrainz recordings a fingerprint belongs to.

https://acoustid.org/webservice: the JSON is read by pyacoustid's own parser; its transport is not used, because its
rate limit and settings are global to one process, and ours must hold for the whole installation.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import acoustid
import httpx

from ironclad.errors import MetadataServiceUnavailable
from ironclad.metadata.cache import DAY
from ironclad.metadata.http import CachedService, Manners

if TYPE_CHECKING:
    from collections.abc import Callable

    from ironclad.metadata.cache import Cache
    from ironclad.metadata.rate import Gate

_UNUSABLE: Final = frozenset({3, 8})
"""AcoustID's error codes about the fingerprint or the duration: asking again would not help."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """Where to ask, as whom, how, and how long answers are kept."""

    client_key: str = field(repr=False)
    """The application's key, from https://acoustid.org/new-application; sent in the body, never part of an address."""
    url: str = "https://api.acoustid.org"
    manners: Manners = field(default_factory=lambda: Manners(interval=1 / 3))
    keep_seconds: float = 30 * DAY
    keep_missing_seconds: float = 3 * DAY


class AcoustId(CachedService):
    """Asks for recordings. Every call may raise `MetadataServiceUnavailable`, and what `check` raises while waiting."""

    def __init__(self, service: Service, gate: Gate, cache: Cache, *, check: Callable[[], None] | None = None) -> None:
        super().__init__(service.manners, gate, cache, accept="application/json", check=check)
        self._service = service

    def recordings(self, fingerprint: str, seconds: float) -> dict[str, float]:
        """MusicBrainz recording ids and how sure AcoustID is of each (0 to 1), surest first; empty if it knows none.

        Raises `MetadataServiceUnavailable` too when it refuses the key.
        """
        url = httpx.URL(self._service.url.rstrip("/") + "/v2/lookup")
        digest = hashlib.sha256(f"{round(seconds)} {fingerprint}".encode()).hexdigest()
        key = f"acoustid {url} {digest}"
        cached = self._cache.get(key)
        if cached is not None and cached.content is not None:
            try:
                return _heard(cached.content)
            except ValueError:
                pass  # kept by a version that understood it: ask again
        content = self._client.post(
            url,
            {
                "client": self._service.client_key, "format": "json", "meta": "recordings",
                "duration": str(round(seconds)), "fingerprint": fingerprint,
            },
            _heard,
        )  # fmt: skip
        found = _heard(content)
        service = self._service
        self._cache.put(key, content, seconds=service.keep_seconds if found else service.keep_missing_seconds)
        return found


def _heard(content: bytes) -> dict[str, float]:
    """Ids and scores. Raises ValueError for what is not AcoustID's JSON, `MetadataServiceUnavailable` for a refusal."""
    data: Any = json.loads(content)
    if not isinstance(data, dict):
        raise ValueError("not AcoustID's JSON")  # noqa: TRY004 - `CachedService` asks again after a ValueError
    if data.get("status") == "error":
        return _refused(data.get("error"))
    found: dict[str, float] = {}
    try:
        for score, recording_id, _, _ in acoustid.parse_lookup_result(data):
            sure = min(1.0, max(0.0, float(score)))
            found[str(recording_id)] = max(sure, found.get(str(recording_id), 0.0))
    except (acoustid.WebServiceError, KeyError, TypeError, AttributeError) as exc:
        raise ValueError(f"not AcoustID's JSON: {exc!r}") from exc
    return dict(sorted(found.items(), key=lambda pair: -pair[1]))


def _refused(error: object) -> dict[str, float]:
    """No recordings where the fingerprint is to blame, else the error."""
    code, message = (error.get("code"), error.get("message")) if isinstance(error, dict) else (None, None)
    if code in _UNUSABLE:
        return {}
    raise MetadataServiceUnavailable(f"AcoustID refuses: {str(message)[:200]} (its error {code})")
