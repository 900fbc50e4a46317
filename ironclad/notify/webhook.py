"""Channels of type `webhook`: the message as JSON to an HTTP address, signed with HMAC-SHA256. This module is a plugin.

It ships with Ironclad and is written as anybody's would be: it states `IRONCLAD_API`, implements the hook
`ironclad_notifiers`, and uses nothing of Ironclad but the hook's marker, the contract and the catalogue.

The receiver computes HMAC-SHA256 with the shared secret over the value of `X-Ironclad-Timestamp`, a dot, and the body
as it came, and compares it with `X-Ironclad-Signature: v1=HEX` in constant time. The timestamp is part of what is
signed, so that an old request cannot be sent again as a new one: `verify` shows it.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from ironclad.errors import ConfigError
from ironclad.notify.contract import NotDelivered
from ironclad.notify.observe import parse_retry_after
from ironclad.plugins.hookspecs import hookimpl

if TYPE_CHECKING:
    from collections.abc import Callable

    from ironclad.notify.contract import Channel, Message, NotifierKind

IRONCLAD_API = 1

TIMESTAMP: Final = "X-Ironclad-Timestamp"
SIGNATURE: Final = "X-Ironclad-Signature"
TOLERANCE_SECONDS: Final = 300.0
"""How old a request may be that a receiver takes."""

_TEMPORARY: Final = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS}


@hookimpl
def ironclad_notifiers() -> list[NotifierKind]:
    """The one kind of notifier that this plugin brings."""
    return [WebhookKind()]


class WebhookKind:
    """Channels of type `webhook`."""

    name = "webhook"

    def open(self, channel: Channel) -> Webhook:
        """A notifier for the channel. Raises `ConfigError` unless `url` is an HTTP address."""
        if not channel.url.startswith(("http://", "https://")):
            raise ConfigError(f"notify.channels.{channel.name}.url must begin with https:// or http://.")
        if channel.options:
            raise ConfigError(f"notify.channels.{channel.name}.options: a webhook has none.")
        return Webhook(channel)


class Webhook:
    """One address.

    Args:
        channel: its URL and, if requests shall be signed, the secret.
        clock: seconds since the epoch, for the timestamp.
    """

    def __init__(self, channel: Channel, clock: Callable[[], float] = time.time) -> None:
        self._channel = channel
        self._clock = clock

    def send(self, message: Message) -> str:
        """Post the message; returns the status. Raises `NotDelivered`."""
        import httpx  # noqa: PLC0415 - plugins load quickly

        body = json.dumps(payload(message), ensure_ascii=False).encode()
        try:
            response = httpx.post(
                self._channel.url, content=body, headers=self._headers(message, body),
                timeout=self._channel.timeout_seconds, follow_redirects=False,
            )  # fmt: skip
        except httpx.HTTPError as exc:
            raise NotDelivered(f"{type(exc).__name__}: {exc}") from None
        except httpx.InvalidURL as exc:
            raise NotDelivered(f"the URL is none: {exc}", permanent=True) from None
        answer = f"HTTP {response.status_code} {response.reason_phrase}".strip()
        if response.is_success:
            return answer
        raise NotDelivered(
            answer,
            permanent=response.status_code < HTTPStatus.INTERNAL_SERVER_ERROR
            and response.status_code not in _TEMPORARY,
            retry_after=parse_retry_after(response.headers.get("Retry-After", "")),
        )

    def _headers(self, message: Message, body: bytes) -> dict[str, str]:
        headers = {
            "Content-Type": "application/json; charset=utf-8", "User-Agent": "ironclad",
            "Idempotency-Key": message.id, "X-Ironclad-Attempt": str(message.attempt),
        }  # fmt: skip
        if self._channel.secret:
            stamp = str(int(self._clock()))
            headers |= {TIMESTAMP: stamp, SIGNATURE: f"v1={signature(self._channel.secret, stamp, body)}"}
        return headers


def payload(message: Message) -> dict[str, Any]:
    """What is posted: a stable form, to which keys may be added."""
    return {
        "version": 1, "id": message.id, "title": message.title, "text": message.text, "severity": message.severity,
        "firing": message.firing, "made_at": message.made_at.isoformat(), "total": message.total,
        "alerts": list(message.alerts),
    }  # fmt: skip


def signature(secret: str, timestamp: str, body: bytes) -> str:
    """HMAC-SHA256 (RFC 2104) over timestamp, dot and body, in hexadecimal digits."""
    return hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()


def verify(secret: str, timestamp: str, body: bytes, given: str, *, now: float) -> bool:
    """Whether a request is ours and fresh; for receivers written in Python.

    Args:
        secret: the shared secret.
        timestamp: the value of `X-Ironclad-Timestamp`.
        body: as it came.
        given: the value of `X-Ironclad-Signature`.
        now: seconds since the epoch.
    """
    if not (timestamp.isascii() and timestamp.isdecimal()) or abs(now - int(timestamp)) > TOLERANCE_SECONDS:
        return False
    return hmac.compare_digest(f"v1={signature(secret, timestamp, body)}".encode(), given.encode())
