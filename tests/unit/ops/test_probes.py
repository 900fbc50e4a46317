"""What services look at every few seconds: what is said, when, and that it passes by itself."""

from __future__ import annotations

import errno
import os
import resource
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ironclad.config import load
from ironclad.errors import DiskFull, EngineMissing, StorageError
from ironclad.ops import probes
from ironclad.ops.health import HealthBoard, Status
from ironclad.ops.probes import GOOD, DiskProbe, EngineProbe, GpuProbe, PrefectProbe, Prober, Verdict, descriptors

if TYPE_CHECKING:
    from ironclad.config import Settings
    from ironclad.ops.health import Component


def settings_on(folder: Path, **environ: str) -> Settings:
    settings = load(environ={"IRONCLAD_DATA_DIR": str(folder), **{f"IRONCLAD_{k}": v for k, v in environ.items()}})
    settings.layout.create()
    return settings


def test_a_prober_reports_each_change_until_it_is_stopped() -> None:
    seen: list[tuple[str, Status]] = []
    both = threading.Semaphore(0)

    def changed(component: Component) -> None:
        seen.append((component.name, component.status))
        both.release()

    answers = iter([GOOD, GOOD, Verdict(Status.FAILED, "gone", "look"), GOOD])
    stopping = threading.Event()

    def probe() -> Verdict:
        return next(answers, GOOD)

    thread = threading.Thread(target=Prober(HealthBoard(changed), {"it": probe}, 0.001).run, args=(stopping,))
    thread.start()
    for _ in range(3):
        assert both.acquire(timeout=60)
    stopping.set()
    thread.join(60)
    assert not thread.is_alive()
    assert seen == [("it", Status.OK), ("it", Status.FAILED), ("it", Status.OK)]


def once(probe: Any) -> Component:
    board, stopping = HealthBoard(), threading.Event()
    stopping.set()
    Prober(board, {"it": probe}).run(stopping)
    (component,) = board.components()
    return component


def test_a_catalogue_error_is_a_failure_with_its_remedy() -> None:
    def probe() -> Verdict:
        raise EngineMissing("no such engine")

    found = once(probe)
    assert (found.status, found.detail, found.remedy) == (Status.FAILED, "no such engine", EngineMissing.hint)


def test_a_probe_that_breaks_does_not_end_probing() -> None:
    def probe() -> Verdict:
        raise ZeroDivisionError

    found = once(probe)
    assert found.status is Status.DEGRADED
    assert "ZeroDivisionError" in found.detail


def test_disk_below_the_floor_and_back(tmp_path: Path) -> None:
    assert once(DiskProbe(settings_on(tmp_path, DISK__MIN_FREE_BYTES="1"))).status is Status.OK
    found = once(DiskProbe(settings_on(tmp_path, DISK__MIN_FREE_BYTES=str(1 << 60))))
    assert (found.status, found.remedy) == (Status.DEGRADED, DiskFull.hint)


def test_a_folder_that_cannot_be_written_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_on(tmp_path, DISK__MIN_FREE_BYTES="1")
    real = os.access  # root may write everywhere, so permissions cannot show it when root runs the tests
    monkeypatch.setattr(os, "access", lambda path, mode: path != settings.layout.work and real(path, mode))
    found = once(DiskProbe(settings))
    assert found.status is Status.FAILED
    assert str(settings.layout.work) in found.detail


@pytest.mark.parametrize("made", [True, False])
def test_a_disk_that_does_not_say_how_full_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, made: bool
) -> None:
    settings = settings_on(tmp_path, DISK__MIN_FREE_BYTES="1")
    if made:
        settings.layout.create()

    def failing(_path: Path) -> None:
        raise OSError(errno.EIO, "the disk is away")

    monkeypatch.setattr(os, "statvfs", failing)
    found = once(DiskProbe(settings))
    assert (found.status, found.remedy) == (Status.FAILED, StorageError.hint)
    assert "the disk is away" in found.detail
    assert str(tmp_path) in found.detail


def test_open_files_against_their_limit() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert once(descriptors).status is Status.OK
    used = sum(1 for _ in Path("/proc/self/fd").iterdir())
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 2, hard))
    try:
        found = once(descriptors)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert found.status is Status.DEGRADED
    assert "LimitNOFILE" in found.remedy


class Api(BaseHTTPRequestHandler):
    status = 200

    def do_GET(self) -> None:
        self.send_response(type(self).status if self.path == "/api/health" else 404)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        return


def test_prefect_away_broken_and_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes, "_PREFECT_SECONDS", 60.0)  # who is not there says so at once
    with ThreadingHTTPServer(("127.0.0.1", 0), Api) as server:
        url = f"http://127.0.0.1:{server.server_address[1]}/api"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        probe = PrefectProbe(settings_on(tmp_path, PREFECT__API_URL=url), Status.DEGRADED)
        assert once(probe).status is Status.OK
        monkeypatch.setattr(Api, "status", 503)
        found = once(probe)
        assert (found.status, "503" in found.detail) == (Status.DEGRADED, True)
        monkeypatch.setattr(Api, "status", 200)
        assert once(probe).status is Status.OK
        server.shutdown()
        thread.join()
    found = once(PrefectProbe(settings_on(tmp_path, PREFECT__API_URL=url), Status.FAILED))
    assert found.status is Status.FAILED
    assert "prefect.api_url" in found.remedy


def test_the_engine_is_there(tmp_path: Path) -> None:
    probe = EngineProbe(settings_on(tmp_path))
    assert [once(probe).status for _ in range(2)] == [Status.OK, Status.OK]


def test_an_engine_that_is_not_installed_says_so(tmp_path: Path) -> None:
    found = once(EngineProbe(settings_on(tmp_path, ENGINE__NAME="nobodys")))
    assert found.status is Status.FAILED
    assert "nobodys" in found.detail
    assert found.remedy


@pytest.mark.parametrize(
    ("running", "memory", "status"),
    [(0, 0, Status.OK), (1, 5, Status.OK), (1, 0, Status.DEGRADED), (0, None, Status.FAILED)],
)
def test_a_gpu_that_is_configured_and_idle_is_an_alarm(running: int, memory: int | None, status: Status) -> None:
    probe = GpuProbe(lambda: running, lambda: memory, patience=2)
    first = once(probe).status
    for _ in range(3):
        last = once(probe)
    assert last.status is status
    assert bool(last.remedy) == (status is not Status.OK)
    assert first is (Status.FAILED if memory is None else Status.OK)  # work that has just begun is no alarm
