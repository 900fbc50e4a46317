"""`/health` of each service while PostgreSQL, Prefect, the disk, the engine and a channel are broken in turn.

And afterwards: every service is ready again by itself, and what was missing was told once, and so was its end.
"""

from __future__ import annotations

import hashlib
import os
import signal
import time
from typing import TYPE_CHECKING, Any

import httpx
import mounts
import pytest
from installation import Installation, until
from sinks import OK, Answer, HttpSink

from ironclad.ops import directory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = [
    pytest.mark.chaos, pytest.mark.services, pytest.mark.timeout(600), pytest.mark.xdist_group("services")
]  # fmt: skip

AIM = 10.0
"""Seconds within which a service says what is wrong; what was measured is printed."""
PATIENCE = 60.0
WEIGHTS = b"these are the weights"
SERVICES = ("watch", "dispatch", "worker-cpu", "prefect", "notify")
PLUGIN = f"""
from dataclasses import replace
from ironclad.engines import builtin
from ironclad.engines.contract import ModelFile, ModelSpec
from ironclad.plugins.hookspecs import hookimpl

IRONCLAD_API = 1
MODEL = ModelSpec(name="big", title="Big", licence="MIT", files=(
    ModelFile(path="w", size={len(WEIGHTS)}, sha256="{hashlib.sha256(WEIGHTS).hexdigest()}"),))

@hookimpl
def ironclad_engines():
    return [replace(builtin.ironclad_engines()[0], name="tape", models=(MODEL,))]
"""


def write_plugin(folder: Path) -> None:
    """An engine that needs a file, installed for processes that have the folder on their path."""
    info = folder / "ironclad_tape-1.0.dist-info"
    info.mkdir(parents=True)
    (folder / "ironclad_tape.py").write_text(PLUGIN, encoding="utf-8")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: ironclad-tape\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text("[ironclad]\ntape = ironclad_tape\n", encoding="utf-8")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 700 MB, to be filled."""
    with mounts.needed(tmp_path / "disk", "size=700m") as folder:
        yield folder


class Trouble:
    """An installation to break, and what its services say."""

    def __init__(self, up: Installation, sink: HttpSink) -> None:
        self.up = up
        self.sink = sink
        self.took: list[str] = []

    def health(self, service: str) -> dict[str, Any]:
        found = directory.find(self.up.layout.run, service)
        if found is None:
            return {}
        try:
            answer: dict[str, Any] = httpx.get(f"{found.url}/health", timeout=3).json()
        except (httpx.HTTPError, ValueError):
            return {}
        return answer

    def component(self, service: str, name: str) -> dict[str, Any]:
        components = self.health(service).get("components", [])
        return next((one for one in components if one["name"] == name), {})

    def says(self, what: str, expected: dict[str, tuple[str, str]], began: float) -> None:
        """Each service says the status of a component, with a remedy, and is ready or not as that means."""
        for service, (name, status) in expected.items():
            until(f"{service}: {name} {status}", lambda: self._is(service, name, status), PATIENCE)  # noqa: B023
            self.took.append(f"{what}: {service} says {name} {status} after {time.monotonic() - began:.1f} s")
            assert self.component(service, name)["remedy"]
            assert self.health(service)["ready"] == (status != "failed")

    def _is(self, service: str, name: str, status: str) -> bool:
        return bool(self.component(service, name).get("status") == status)

    def told(self, alert: str, status: str, count: int = 1) -> None:
        """The sink has heard so many times that an alert is so; between two of one kind there is one of the other."""
        until(f"{alert} told {status}", lambda: self._told(alert).count(status) >= count, PATIENCE * 2)
        heard = self._told(alert)
        assert heard == [("firing", "resolved")[number % 2] for number in range(len(heard))], heard

    def _told(self, alert: str) -> list[str]:
        calls = [call.json for call in list(self.sink.received)]
        return [one["status"] for call in calls for one in call["alerts"] if one["alert"].startswith(alert)]

    def well(self, what: str) -> None:
        """Every service is ready again by itself, and no component is worse than ok."""
        began = time.monotonic()

        def good() -> bool:
            answers = [self.health(service) for service in SERVICES]
            return all(answer.get("ready") and answer["status"] == "ok" for answer in answers)

        until(f"all well after {what}: {[self.health(s) for s in SERVICES]}", good, PATIENCE)
        self.took.append(f"{what}: all ready again after {time.monotonic() - began:.1f} s")


def test_each_service_says_what_is_wrong_and_comes_back_by_itself(
    tmp_path: Path, small_disk: Path, make_song: Callable[..., Path]
) -> None:
    write_plugin(tmp_path / "plugins")
    weights = tmp_path / "w"
    weights.write_bytes(WEIGHTS)
    own = {
        "PYTHONPATH": os.pathsep.join([str(tmp_path / "plugins"), os.environ.get("PYTHONPATH", "")]),
        "IRONCLAD_ENGINE__NAME": "tape", "IRONCLAD_NOTIFY__SILENT_SECONDS": "30",
        "IRONCLAD_NOTIFY__GROUP_WAIT_SECONDS": "1", "IRONCLAD_NOTIFY__GROUP_INTERVAL_SECONDS": "1",
        "IRONCLAD_NOTIFY__BACKOFF_SECONDS": "0.5", "IRONCLAD_NOTIFY__BACKOFF_MAX_SECONDS": "1",
        "IRONCLAD_NOTIFY__ATTEMPTS": "1000",
        "IRONCLAD_NOTIFY__CHANNELS__OPS__TYPE": "webhook", "IRONCLAD_NOTIFY__CHANNELS__OPS__RATE_PER_MINUTE": "6000",
    }  # fmt: skip
    with HttpSink() as sink:
        up = Installation(small_disk / "data", {**own, "IRONCLAD_NOTIFY__CHANNELS__OPS__URL": sink.url})
        up.layout.create()
        up.ironclad("models", "import", "tape", "big", str(weights), "--accept-licence")
        in_turn(up, sink, small_disk, make_song(tmp_path / "song.flac", 2.0))


def in_turn(up: Installation, sink: HttpSink, small_disk: Path, song: Path) -> None:
    """Break one thing after the other."""
    with up as running:
        trouble = Trouble(running, sink)
        trouble.well("start")
        time.sleep(30)  # notify.silent_seconds: before, the notifier takes what is missing for a machine that starts
        postgres(trouble)
        prefect(trouble)
        disk(trouble, small_disk)
        engine(trouble)
        channel(trouble)
        running.drop(song)
        assert running.settled(2, 120) == {"succeeded": 1, "failed": 1}
        changes = running.rows(
            "SELECT component, to_status FROM health_event WHERE service LIKE 'worker-cpu@%' ORDER BY id"
        )
        history = [(row.component, row.to_status) for row in changes]
        for name in ("database", "prefect api", "storage", "engine"):
            assert [status for component, status in history if component == name][-1] == "ok"
    print("\n".join(trouble.took))  # noqa: T201 - what was measured


def postgres(trouble: Trouble) -> None:
    """Stopped, not killed: it takes connections and answers nothing."""
    pid = trouble.up.server.pid()
    assert pid is not None
    began = time.monotonic()
    os.kill(pid, signal.SIGSTOP)
    try:
        trouble.says(
            "PostgreSQL",
            dict.fromkeys(SERVICES, ("database", "failed")), began,
        )  # fmt: skip
    finally:
        os.kill(pid, signal.SIGCONT)
    trouble.well("PostgreSQL")


def prefect(trouble: Trouble) -> None:
    pid = trouble.up.pid_of("prefect")
    assert pid is not None
    began = time.monotonic()
    os.kill(pid, signal.SIGSTOP)
    try:
        trouble.says(
            "Prefect", {"dispatch": ("prefect api", "degraded"), "worker-cpu": ("prefect api", "failed")}, began
        )
        assert trouble.health("prefect") == {}  # it cannot answer; Prometheus sees that as `up == 0`
        assert trouble.health("watch")["ready"]
        trouble.told("dependency:prefect", "firing")
    finally:
        os.kill(pid, signal.SIGCONT)
    trouble.well("Prefect")
    trouble.told("dependency:prefect", "resolved")


def disk(trouble: Trouble, folder: Path) -> None:
    free = os.statvfs(folder)
    ballast = folder / "ballast"
    began = time.monotonic()
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, free.f_bavail * free.f_frsize - 60_000_000)
    try:
        trouble.says(
            "disk",
            dict.fromkeys(("watch", "dispatch", "worker-cpu"), ("storage", "degraded")), began,
        )  # fmt: skip
    finally:
        ballast.unlink()
    trouble.well("disk")


def engine(trouble: Trouble) -> None:
    model = trouble.up.layout.models / "tape" / "big"
    away = model.with_name("away")
    began = time.monotonic()
    model.rename(away)
    try:
        trouble.says("engine", {"worker-cpu": ("engine", "failed")}, began)
        assert "ironclad models" in trouble.component("worker-cpu", "engine")["detail"]
        for service in ("watch", "dispatch", "prefect", "notify"):
            assert trouble.health(service)["ready"]
        trouble.told("dependency:engine@", "firing")
    finally:
        away.rename(model)
    trouble.well("engine")
    trouble.told("dependency:engine@", "resolved")


def channel(trouble: Trouble) -> None:
    """The service that is notified refuses: what waits is tried again, and arrives when it takes messages again."""
    page = trouble.up.folder / "page.mp3"
    page.write_text("<html>no song</html>", encoding="ascii")
    trouble.sink.decide = lambda: Answer(503, keep=False)
    try:
        trouble.up.drop(page)
        until("a failed job", lambda: trouble.up.states().get("failed"), PATIENCE * 2)
        trouble.says("channel", {"notify": ("channel ops", "degraded")}, time.monotonic())
    finally:
        trouble.sink.decide = lambda: OK
    trouble.well("channel")
    trouble.told("job:", "firing")
