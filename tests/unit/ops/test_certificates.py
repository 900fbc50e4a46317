"""When certificates run out, seen on real TLS servers."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from ironclad.config import load
from ironclad.ops import certificates
from ironclad.ops.certificates import Target, expiry, judge, targets
from ironclad.ops.checks import host
from ironclad.ops.checks.outcome import Level
from ironclad.ops.health import HealthBoard, Status
from ironclad.ops.metrics import Metrics

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

END = datetime(2031, 5, 6, 7, 8, 9, tzinfo=UTC)


def write_certificate(folder: Path, end: datetime) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "here")])
    certificate = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(1).not_valid_before(end - timedelta(days=4000)).not_valid_after(end).sign(key, hashes.SHA256())
    )  # fmt: skip
    path = folder / "here.pem"
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    return path


@pytest.fixture
def serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., int]]:
    """`serve(end, postgres=…)`: a TLS server for one client; returns its port."""
    monkeypatch.setitem(expiry.__kwdefaults__, "seconds", 60.0)  # it is a thread of this process, and may be slow
    with contextlib.ExitStack() as stack:

        def start(end: datetime = END, *, postgres: bool | None = False, answer: bytes = b"S") -> int:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(write_certificate(tmp_path, end))
            listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))

            def one() -> None:
                with contextlib.suppress(OSError), listener.accept()[0] as raw:
                    if postgres:
                        assert raw.recv(8) == certificates._SSL_REQUEST
                        raw.sendall(answer)
                    if answer == b"S":
                        context.wrap_socket(raw, server_side=True).close()

            thread = threading.Thread(target=one)
            thread.start()
            stack.callback(thread.join, 10)
            return int(listener.getsockname()[1])

        yield start


def test_the_end_of_a_certificate(serve: Callable[..., int]) -> None:
    assert expiry(Target("prefect", "127.0.0.1", serve())) == END


def test_in_postgresqls_way(serve: Callable[..., int]) -> None:
    assert expiry(Target("database", "127.0.0.1", serve(postgres=True), postgres=True)) == END


def test_a_server_without_tls(serve: Callable[..., int]) -> None:
    port = serve(postgres=True, answer=b"N")
    assert expiry(Target("database", "127.0.0.1", port, postgres=True)) is None


@pytest.mark.parametrize(("days", "status"), [(400, Status.OK), (20.5, Status.DEGRADED), (-3, Status.DEGRADED)])
def test_health_and_metric(serve: Callable[..., int], days: float, status: Status) -> None:
    end = (datetime.now(UTC) + timedelta(days=days)).replace(microsecond=0)
    metrics, health = Metrics("dispatch", process=False), HealthBoard()
    certificates._look(Target("prefect", "127.0.0.1", serve(end)), metrics, health)
    (component,) = health.components()
    assert (component.name, component.status) == ("certificate prefect", status)
    assert bool(component.remedy) == (status is not Status.OK)
    name = "ironclad_certificate_expiry_timestamp_seconds"
    assert metrics.registry.get_sample_value(name, {"endpoint": "prefect"}) == end.timestamp()


@pytest.mark.parametrize(("days", "level"), [(400, Level.OK), (20.5, Level.WARN), (-3, Level.FAIL)])
def test_doctor_and_health_judge_it(serve: Callable[..., int], tmp_path: Path, days: float, level: Level) -> None:
    port = serve(datetime.now(UTC) + timedelta(days=days))
    settings = load(
        environ={"IRONCLAD_DATA_DIR": str(tmp_path), "IRONCLAD_PREFECT__API_URL": f"https://127.0.0.1:{port}/api"}
    )
    (outcome,) = host.certificate(settings)
    assert (outcome.about, outcome.level) == ("prefect", level)
    assert bool(outcome.remedy) == (level is not Level.OK)


def test_doctor_and_health_say_when_nobody_answers(tmp_path: Path) -> None:
    address = {"IRONCLAD_PREFECT__API_URL": "https://127.0.0.1:9/api", "IRONCLAD_DATA_DIR": str(tmp_path)}
    (outcome,) = host.certificate(load(environ=address))
    assert (outcome.level, bool(outcome.remedy)) == (Level.WARN, True)


def test_words() -> None:
    now = END - timedelta(days=3)
    assert judge(END, now)[0] == "its certificate runs out in 3 days (2031-05-06)"
    assert judge(END, END + timedelta(days=1))[0] == "its certificate has run out (2031-05-06)"


def found(**environ: str) -> list[tuple[str, str, int, bool]]:
    settings = load(environ={f"IRONCLAD_{name}": value for name, value in environ.items()})
    return [(one.name, one.host, one.port, one.postgres) for one in targets(settings)]


def test_what_the_settings_name() -> None:
    assert found() == []
    assert found(DATABASE_URL="postgresql://u:p@db.example/x") == [("database", "db.example", 5432, True)]
    assert found(DATABASE_URL="postgresql://u:p@db.example:6000/x?sslmode=disable") == []
    assert found(DATABASE_URL="postgresql://u@/x?host=/run/postgresql") == []
    assert found(PREFECT__API_URL="https://prefect.example/api") == [("prefect", "prefect.example", 443, False)]
    assert found(PREFECT__API_URL="http://prefect.example:4200/api") == []
