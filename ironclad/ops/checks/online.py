"""Services of others: MusicBrainz, and the channels of notifications."""

from __future__ import annotations

from typing import TYPE_CHECKING

import ironclad
from ironclad.ops.checks.outcome import ok, warn

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


def channels(settings: Settings) -> list[Outcome]:
    """Each channel of notifications has what it needs; `ironclad notify test CHANNEL` sends for real."""
    found = []
    for name, channel in settings.notify.channels.items():
        if channel.url is None:
            remedy = f"Put it into the secrets folder or IRONCLAD_NOTIFY__CHANNELS__{name.upper()}__URL."
            found.append(warn("has no url", remedy, about=name))
        else:
            found.append(ok(f"{channel.type}; `ironclad notify test {name}` sends a message", about=name))
    return found or [ok("there is no channel: nobody is told of anything (notify.channels)")]
