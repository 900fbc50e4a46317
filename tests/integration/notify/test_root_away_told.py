"""From end to end: a watch root goes away, its watcher notices, people are told once, and once more when it is back."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa
from sinks import HttpSink

from ironclad.config import load
from ironclad.db.session import Database
from ironclad.notify.notifier import Notifier
from ironclad.ops import health_log
from ironclad.ops.service import ServiceRuntime
from ironclad.ops.services.watch_service import WatchService

if TYPE_CHECKING:
    from ironclad.config import Settings

PATIENCE = 120.0
ROUTES = (
    '[{"kinds": ["dependency_down"], "channels": ["hook"], "group_wait_seconds": 0, "group_interval_seconds": 0},'
    ' {"kinds": ["service_*"], "mute": true}]'
)


class Parts:
    """The watcher in the real runtime and the notifier, each in its thread."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.stopping = threading.Event()
        self.watching, self.notifying = threading.Event(), threading.Event()
        self.runtime = ServiceRuntime("watch", settings)
        self.threads = [threading.Thread(target=self._watch), threading.Thread(target=self._notify)]
        for thread in self.threads:
            thread.start()

    def _watch(self) -> None:
        with self.runtime:
            self.watching.set()
            WatchService().run(self.runtime)

    def _notify(self) -> None:
        database = Database.open(self.settings)
        try:
            Notifier(database, self.settings.notify).run(self.stopping, self.notifying.set)
        finally:
            database.close()

    def until_watched(self) -> None:
        deadline = time.monotonic() + PATIENCE
        while not any(part.name == "root 1 events" for part in self.runtime.health.components()):
            assert time.monotonic() < deadline, self.runtime.health.components()
            time.sleep(0.05)  # the board has no event to await

    def stop(self) -> None:
        self.stopping.set()
        self.runtime.stop()
        for thread in self.threads:
            thread.join(PATIENCE)
            assert not thread.is_alive()


@pytest.mark.services
@pytest.mark.timeout(900)
def test_a_watch_root_that_goes_away_is_one_message_and_its_return_another(
    database: Database, environment: dict[str, str]
) -> None:
    # Not "auto": its probe file may give no event within two seconds on a busy machine, which would be told as well.
    root = {"path": str(Path(environment["IRONCLAD_DATA_DIR"], "input")), "watch": "events"}
    with HttpSink() as sink:
        settings = load(environ={
            **environment, "IRONCLAD_SERVICES__BASE_PORT": "0", "IRONCLAD_NOTIFY__SILENT_SECONDS": "1",
            "IRONCLAD_INGEST__RESCAN_SECONDS": "1", "IRONCLAD_INGEST__ROOTS": json.dumps([root]),
            "IRONCLAD_NOTIFY__CHANNELS__HOOK__URL": sink.url, "IRONCLAD_NOTIFY__CHANNELS__HOOK__TYPE": "webhook",
            "IRONCLAD_NOTIFY__CHANNELS__HOOK__RATE_PER_MINUTE": "6000", "IRONCLAD_NOTIFY__ROUTES": ROUTES,
        })  # fmt: skip
        settings.layout.create()
        parts = Parts(settings)
        try:
            assert parts.watching.wait(PATIENCE)
            assert parts.notifying.wait(PATIENCE)
            parts.until_watched()
            folder = settings.layout.input
            folder.rename(folder.with_name("away"))
            assert sink.wait(1, PATIENCE)
            folder.with_name("away").rename(folder)
            assert sink.wait(2, PATIENCE)
        finally:
            parts.stop()
        away, back = (call.json for call in sink.received)
    (alert,) = away["alerts"]
    assert (alert["kind"], alert["status"], alert["labels"]["dependency"]) == ("dependency_down", "firing", "root 1")
    assert str(folder) in alert["data"]["detail"]
    assert "Mount it again" in away["text"]
    assert away["title"].startswith("[ERROR] Something that Ironclad needs does not work (root 1 on ")
    assert back["title"].startswith("[RESOLVED]")
    with database.session() as session:
        history = [(one.component, one.to_status) for one in health_log.history(session, component="root 1")]
        left = session.scalar(
            sa.text("SELECT count(*) FROM alert WHERE kind = 'dependency_down' AND status = 'firing'")
        )
    assert history == [("root 1", "ok"), ("root 1", "degraded")]
    assert left == 0
