"""What Apprise does not tell: the status, the wish to wait and the SMTP code that a service answered with.

Apprise says only whether a message got through. Its services use `requests` and `smtplib`; the answers of the former
are seen by wrapping `requests.Session.send` once, for the thread that is sending; those of the latter are in Apprise's
own log lines, which go nowhere else: at that level they hold addresses and payloads.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import logging
import re
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_SMTP: Final = re.compile(r"\(([245]\d\d),")
_HTTP_IN_LOG: Final = re.compile(r"error=(\d{3})\b")
_EXCEPTION: Final = re.compile(r"Socket Exception: (.*)", re.DOTALL)


@dataclass(slots=True)
class Observed:
    """What was seen while one message was sent."""

    status: int | None = None
    """The last HTTP status that was no success, else the last one."""
    retry_after: float | None = None
    smtp: int | None = None
    exception: str = ""
    lines: list[str] = field(default_factory=list)

    def response(self, status: int, retry_after: str | None) -> None:
        """An HTTP response."""
        if self.status is None or self.status < 400 <= status:  # noqa: PLR2004 - errors begin there
            self.status = status
            self.retry_after = parse_retry_after(retry_after) if retry_after else None

    def line(self, text: str) -> None:
        """A line of Apprise's log."""
        self.lines.append(text)
        if (code := _SMTP.search(text)) is not None:
            self.smtp = int(code[1])
        if self.status is None and (code := _HTTP_IN_LOG.search(text)) is not None:
            self.status = int(code[1])
        if (said := _EXCEPTION.search(text)) is not None:
            self.exception = said[1]


_current: contextvars.ContextVar[Observed | None] = contextvars.ContextVar("ironclad_notify_observed", default=None)


def parse_retry_after(value: str, now: datetime | None = None) -> float | None:
    """Seconds, from either form of the header (RFC 9110, 10.2.3); None for what is neither."""
    value = value.strip()
    if value.isdecimal():
        return float(value)
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return None
    moment = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return max(0.0, (moment - (now or datetime.now(UTC))).total_seconds())


class _OfThread(logging.Handler):
    """Takes the lines that one thread logs."""

    def __init__(self, observed: Observed) -> None:
        super().__init__(logging.DEBUG)
        self._observed = observed
        self._thread = threading.get_ident()

    def emit(self, record: logging.LogRecord) -> None:
        if record.thread == self._thread:
            with contextlib.suppress(Exception):  # a line that cannot be formatted is no reason not to send
                self._observed.line(record.getMessage())


def install() -> None:
    """Begin to observe; further calls do nothing."""
    import apprise  # noqa: F401, PLC0415 - heavy; it sets its logger up when it is imported
    import requests  # noqa: PLC0415 - likewise

    logger = logging.getLogger("apprise")
    logger.propagate = False  # its lines hold what nobody may read in a log
    logger.setLevel(logging.DEBUG)
    if not any(isinstance(handler, logging.NullHandler) for handler in logger.handlers):
        logger.addHandler(logging.NullHandler())
    original = requests.Session.send
    if getattr(original, "ironclad_observed", False):
        return

    @functools.wraps(original)
    def send(self: requests.Session, request: Any, **options: Any) -> requests.Response:
        response = original(self, request, **options)
        observed = _current.get()
        if observed is not None:
            observed.response(response.status_code, response.headers.get("Retry-After"))
        return response

    send.ironclad_observed = True  # type: ignore[attr-defined]  # a mark, so that it is wrapped once
    requests.Session.send = send  # type: ignore[method-assign]  # the one place that every service goes through


@contextlib.contextmanager
def observing() -> Iterator[Observed]:
    """What is sent inside, by this thread, is observed."""
    observed = Observed()
    handler = _OfThread(observed)
    logger = logging.getLogger("apprise")
    logger.addHandler(handler)
    token = _current.set(observed)
    try:
        yield observed
    finally:
        _current.reset(token)
        logger.removeHandler(handler)
