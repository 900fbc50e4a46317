"""When the certificates of the TLS endpoints that the settings name run out: the database's and Prefect's."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qs, urlsplit

if TYPE_CHECKING:
    from ironclad.config import Settings
    from ironclad.ops.health import HealthBoard
    from ironclad.ops.metrics import Metrics

WARN_DAYS: Final = 21.0
_EVERY_SECONDS: Final = 3600.0
_TIMEOUT: Final = 3.0
_SSL_REQUEST: Final = struct.pack("!ii", 8, 80877103)  # PostgreSQL, Message Formats: SSLRequest
_POSTGRES_PORT, _HTTPS_PORT = 5432, 443
REMEDY: Final = "Renew the certificate on that server; clients that check it will refuse it when it has run out."


@dataclass(frozen=True, slots=True)
class Target:
    """A TLS endpoint."""

    name: str
    host: str
    port: int
    postgres: bool = False
    """Whether TLS has to be asked for in PostgreSQL's way first."""


def targets(settings: Settings) -> tuple[Target, ...]:
    """What the settings name, apart from this machine's own sockets."""
    found = []
    if settings.database_url is not None:
        url = urlsplit(settings.database_url.get_secret_value())
        disabled = parse_qs(url.query).get("sslmode") == ["disable"]
        if url.hostname and not url.hostname.startswith("/") and not disabled:
            found.append(Target("database", url.hostname, url.port or _POSTGRES_PORT, postgres=True))
    if settings.prefect.api_url is not None:
        url = urlsplit(settings.prefect.api_url)
        if url.scheme == "https" and url.hostname:
            found.append(Target("prefect", url.hostname, url.port or _HTTPS_PORT))
    return tuple(found)


def expiry(target: Target, *, seconds: float = _TIMEOUT) -> datetime | None:
    """When the certificate that the endpoint shows ends; None if it speaks no TLS. Raises OSError.

    Whoever signed it is not asked: one of the operator's own authority runs out as well.
    """
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with contextlib.ExitStack() as stack:
        raw = stack.enter_context(socket.create_connection((target.host, target.port), timeout=seconds))
        if target.postgres:
            raw.sendall(_SSL_REQUEST)
            if raw.recv(1) != b"S":
                return None
        with context.wrap_socket(raw, server_hostname=target.host) as tls:
            certificate = tls.getpeercert(binary_form=True)
    return None if certificate is None else not_after(certificate)


def not_after(certificate: bytes) -> datetime:
    """The end of a certificate's validity (RFC 5280 section 4.1.2.5), read from its DER form."""
    from cryptography import x509  # noqa: PLC0415 - only where there is TLS; a dependency of Prefect

    return x509.load_der_x509_certificate(certificate).not_valid_after_utc


def judge(end: datetime, now: datetime) -> tuple[str, float]:
    """What to say of a certificate, and the days that are left."""
    days = (end - now).total_seconds() / 86_400
    word = "has run out" if days < 0 else f"runs out in {days:.0f} days"
    return f"its certificate {word} ({end:%Y-%m-%d})", days


def watch(settings: Settings, metrics: Metrics, health: HealthBoard) -> None:
    """Look now and every hour, in a thread of its own, where there is anything to look at."""
    found = targets(settings)
    if not found:
        return

    def look() -> None:
        while True:
            for target in found:
                with contextlib.suppress(OSError, ValueError):  # one that is away is somebody else's alarm
                    _look(target, metrics, health)
            time.sleep(_EVERY_SECONDS)

    threading.Thread(target=look, name="certificates", daemon=True).start()


def _look(target: Target, metrics: Metrics, health: HealthBoard) -> None:
    end = expiry(target)
    if end is None:
        return
    metrics.gauge("ironclad_certificate_expiry_timestamp_seconds").labels(target.name).set(end.timestamp())
    detail, days = judge(end, datetime.now(UTC))
    name = f"certificate {target.name}"
    if days < WARN_DAYS:
        health.degraded(name, detail, REMEDY)
    else:
        health.ok(name, detail)
