"""Services of others: MusicBrainz, the virus scanner."""

from __future__ import annotations

from typing import TYPE_CHECKING

import ironclad
from ironclad.ops.checks.outcome import fail, ok, warn
from ironclad.stages import viruses

if TYPE_CHECKING:
    from ironclad.config import Settings
    from ironclad.ops.checks.outcome import Outcome

_SECONDS = 10.0


def musicbrainz(settings: Settings) -> list[Outcome]:
    """The service answers, if it is asked at all. Jobs do not wait for it: their tags are made up for later."""
    service = settings.metadata.musicbrainz
    if not service.enabled:
        return [ok("is not asked (metadata.musicbrainz.enabled)")]
    import httpx  # noqa: PLC0415 - only here

    agent = f"Ironclad/{ironclad.__version__} ( {service.contact or 'no contact set'} )"
    address = f"{service.url.rstrip('/')}/ws/2/genre/all?limit=1&fmt=json"
    remedy = "Nothing is lost: `ironclad retag --pending` later. Check the network, or metadata.musicbrainz.url."
    try:
        status = httpx.get(address, timeout=_SECONDS, headers={"User-Agent": agent}).status_code
    except httpx.HTTPError as exc:
        return [warn(f"{service.url} does not answer: {type(exc).__name__}", remedy)]
    if status >= httpx.codes.INTERNAL_SERVER_ERROR:
        return [warn(f"{service.url} answers {status}", remedy)]
    if not service.contact:
        return [warn("answers, but no contact is set", "Set metadata.musicbrainz.contact: they ask for one.")]
    return [ok(f"{service.url} answers")]


def virus_scanner(settings: Settings) -> list[Outcome]:
    """The scanner finds a known signature in the smallest and in the largest file of which it is believed."""
    daemon = viruses.scanner(settings.virus)
    if daemon is None:
        return [ok("none is asked (virus.socket)")]
    remedy = "Start clamd, check virus.socket; until then songs wait. A limit: see docs/security.md#viruses."
    try:
        version = daemon.version()
    except OSError as exc:
        return [fail(f"{daemon.path} does not answer: {exc.strerror or exc}", remedy)]
    problem = daemon.self_test()
    return [fail(problem, remedy) if problem else ok(f"{version} finds what it should")]
