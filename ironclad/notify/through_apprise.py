"""Delivery by Apprise: one service at a time, so that each result is known."""

from __future__ import annotations

import warnings
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from ironclad.errors import ConfigError
from ironclad.notify import observe
from ironclad.notify.contract import NotDelivered
from ironclad.notify.redaction import redacted

if TYPE_CHECKING:
    from ironclad.notify.contract import Channel, Message

_CONNECT_SECONDS: Final = 10.0
_TEMPORARY: Final = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS}
_CLIENT, _SERVER = 400, 500


class AppriseKind:
    """Channels of type `apprise`."""

    name = "apprise"

    def open(self, channel: Channel) -> AppriseNotifier:
        """A notifier for one service URL. Raises `ConfigError`."""
        return AppriseNotifier(channel)


class AppriseNotifier:
    """One Apprise service.

    Apprise's own retries are off, and its redirects: the queue retries, with delays that it chooses. Its instances are
    made anew for each message, because they pause between messages to keep a rate that is kept here already.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the first time, a hundred services are imported, some with old libraries
            observe.install()
            self._make()

    def _make(self) -> Any:
        import apprise  # noqa: PLC0415 - heavy: a hundred services

        asset = apprise.AppriseAsset(
            app_id="Ironclad", app_desc="Ironclad", app_url="", async_mode=False, secure_logging=True,
            storage_mode=apprise.PersistentStoreMode.MEMORY, default_service_retry=0, http_redirects=False,
        )  # fmt: skip
        service = None
        if self._channel.url and "\n" not in self._channel.url:
            service = apprise.Apprise.instantiate(self._channel.url, asset=asset)
        if service is None:
            raise ConfigError(
                f"notify.channels.{self._channel.name}.url is no service URL that Apprise knows."
                if self._channel.url else f"notify.channels.{self._channel.name}.url is not set."
            )  # fmt: skip
        # The read time-out is ours: Apprise's four seconds take a slow gateway that has delivered for one that failed.
        # For mail its time to connect is that of every answer, too, and a server may look at a message for long.
        mail = self._channel.url.partition(":")[0].lower() in {"mailto", "mailtos"}
        connect = self._channel.timeout_seconds if mail else _CONNECT_SECONDS
        service.socket_connect_timeout = min(connect, self._channel.timeout_seconds)
        service.socket_read_timeout = self._channel.timeout_seconds
        service.service_retry = 0
        service.overflow_mode = apprise.OverflowMode.TRUNCATE  # split, one message would become many
        carrier = apprise.Apprise(asset=asset)
        carrier.add(service)
        return carrier

    def send(self, message: Message) -> str:
        """Deliver; returns what came back. Raises `NotDelivered`."""
        import apprise  # noqa: PLC0415 - as above

        carrier = self._make()
        formats = {
            apprise.NotifyFormat.HTML: message.html, apprise.NotifyFormat.MARKDOWN: message.markdown,
            apprise.NotifyFormat.TEXT: message.text,
        }  # fmt: skip
        wanted = apprise.NotifyFormat(carrier[0].notify_format)
        with observe.observing() as seen:
            try:
                sent = carrier.notify(
                    body=formats[wanted], title=message.title, body_format=wanted, notify_type=_type(message)
                )
            except Exception as exc:  # noqa: BLE001 - a service of a hundred authors; it must not end the notifier
                raise NotDelivered(self._said(f"{type(exc).__name__}: {exc}")) from None
        if not sent:
            raise self._failure(seen)
        return f"HTTP {seen.status}" if seen.status else "accepted"

    def _failure(self, seen: observe.Observed) -> NotDelivered:
        if seen.status is not None and seen.status >= _CLIENT:
            permanent = seen.status < _SERVER and seen.status not in _TEMPORARY
            return NotDelivered(_http(seen.status), permanent=permanent, retry_after=seen.retry_after)
        if seen.smtp is not None:
            return NotDelivered(self._said(f"SMTP {seen.smtp} {seen.exception}"), permanent=seen.smtp >= _SERVER)
        said = seen.exception or (seen.lines[-1] if seen.lines else "Apprise says no more than that it failed")
        return NotDelivered(self._said(said))

    def _said(self, text: str) -> str:
        return redacted(text, self._channel)


def _http(status: int) -> str:
    try:
        return f"HTTP {status} {HTTPStatus(status).phrase}"
    except ValueError:
        return f"HTTP {status}"


def _type(message: Message) -> str:
    if not message.firing:
        return "success" if message.severity != "info" else "info"
    return {"info": "info", "warning": "warning"}.get(message.severity, "failure")
