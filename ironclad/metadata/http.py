"""Asks a public web service politely: a slot of its own for each request, bounded answers, back-off, few attempts."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import httpx

from ironclad import __version__
from ironclad.errors import MetadataServiceUnavailable
from ironclad.metadata.rate import wait

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ironclad.metadata.cache import Cache
    from ironclad.metadata.rate import Gate

_GONE = frozenset({400, 404, 410})
"""Answers that will not change: no such thing, or not an id."""
_CHUNK = 1 << 16
LONGEST_ID = 200
"""Characters that an id may have to be asked for. MusicBrainz' have 36; tags may hold anything, and no address can."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manners:
    """How to ask."""

    contact: str = "https://pypi.org/project/ironclad-audio/"
    """Address or page of the operator, for the User-Agent: MusicBrainz asks for one."""
    interval: float = 1.0
    """Seconds between two requests of the whole installation; a mirror of one's own may have 0."""
    timeout: float = 15.0
    """Seconds of silence before an attempt is given up."""
    total_seconds: float = 60.0
    """Longest that one answer may take to arrive."""
    attempts: int = 4
    backoff: float = 2.0
    """Seconds before the second attempt; doubles each time, unless the service names its own."""
    max_backoff: float = 30.0
    max_bytes: int = 8 * 1024 * 1024

    @property
    def user_agent(self) -> str:
        """`Ironclad/0.1.0 ( contact )`, the form that MusicBrainz prescribes."""
        return f"Ironclad/{__version__} ( {self.contact} )"


class PoliteClient:
    """Gets whole, valid answers. Use as a context manager, or `close` it."""

    def __init__(self, manners: Manners, gate: Gate, *, accept: str, check: Callable[[], None] | None = None) -> None:
        self._manners = manners
        self._gate = gate
        self._check = check
        self._client = httpx.Client(
            headers={"User-Agent": manners.user_agent, "Accept": accept},
            timeout=manners.timeout,
            follow_redirects=True,
        )

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def get(self, url: httpx.URL, valid: Callable[[bytes], object]) -> bytes | None:
        """The answer's bytes; None where there is nothing.

        `valid` raises ValueError for an answer that is cut or foreign; such a one is asked for again, as are 5xx,
        time-outs and broken connections. Raises `MetadataServiceUnavailable` when all attempts failed, and what
        `check` raises while waiting.
        """
        return self._ask(self._client.build_request("GET", url), valid, frozenset({httpx.codes.OK}), _GONE)

    def post(self, url: httpx.URL, form: Mapping[str, str], valid: Callable[[bytes], object]) -> bytes:
        """The bytes of the answer to a form, of a 400 too: such a service says there what is wrong. Else as `get`."""
        answers = frozenset({httpx.codes.OK, httpx.codes.BAD_REQUEST})
        content = self._ask(self._client.build_request("POST", url, data=form), valid, answers, frozenset())
        return content or b""

    def _ask(
        self, request: httpx.Request, valid: Callable[[bytes], object], answers: frozenset[int], gone: frozenset[int]
    ) -> bytes | None:
        manners, url = self._manners, request.url
        reason = ""
        for attempt in range(manners.attempts):
            wait(self._gate.reserve(manners.interval), self._check)
            delay = manners.backoff * 2**attempt
            try:
                with contextlib.closing(self._client.send(request, stream=True, follow_redirects=True)) as reply:
                    if reply.status_code in gone:
                        return None
                    if reply.status_code in answers:
                        content = self._content(reply)
                        valid(content)
                        return content
                    reason = f"it answered {reply.status_code}"
                    delay = max(delay, _retry_after(reply))
            except (httpx.HTTPError, httpx.InvalidURL, ValueError) as exc:
                reason = f"{type(exc).__name__}: {exc}"
            if attempt + 1 < manners.attempts:
                wait(min(delay, manners.max_backoff), self._check)
        raise MetadataServiceUnavailable(f"{url.host}: {reason} ({manners.attempts} attempts)", url=str(url))

    def _content(self, reply: httpx.Response) -> bytes:
        """The body, within the limits of size and time (a server may send a byte a second for ever)."""
        deadline = time.monotonic() + self._manners.total_seconds
        content = bytearray()
        for chunk in reply.iter_bytes(_CHUNK):
            content += chunk
            if len(content) > self._manners.max_bytes:
                raise ValueError(f"the answer is longer than {self._manners.max_bytes} bytes")
            if time.monotonic() > deadline:
                raise ValueError(f"the answer took longer than {self._manners.total_seconds:g} s")
            if self._check is not None:
                self._check()
        return bytes(content)


def _retry_after(reply: httpx.Response) -> float:
    """Seconds that the service asks for; its other form, a date, is left to the back-off."""
    text = reply.headers.get("Retry-After", "")
    return float(text) if text.isascii() and text.isdigit() else 0.0


class CachedService:
    """A web service whose answers are kept: what its askers have in common. A context manager, or `close` it.

    Args:
        manners: how to ask.
        gate: hands out the installation's slots for requests.
        cache: where answers are kept.
        accept: the type that is asked for.
        check: called while waiting; what it raises ends the wait.
    """

    def __init__(
        self, manners: Manners, gate: Gate, cache: Cache, *, accept: str, check: Callable[[], None] | None
    ) -> None:
        self._cache = cache
        self._client = PoliteClient(manners, gate, accept=accept, check=check)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._client.close()
