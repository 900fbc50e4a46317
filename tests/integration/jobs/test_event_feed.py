"""The feed: every event arrives, in order, and again after the server was away."""

from __future__ import annotations

import queue
import threading
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from ironclad.db import schema
from ironclad.db.embedded import EmbeddedServer
from ironclad.db.session import Database
from ironclad.jobs import control, history
from ironclad.jobs.feed import EVENT, PROGRESS, Feed, Notice

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DEADLINE = 60.0


class Listener:
    """A feed read by a thread."""

    def __init__(self, dsn: str, channels: tuple[str, ...], tick_seconds: float) -> None:
        self.heard: queue.Queue[Notice | None] = queue.Queue()
        self.stopping = threading.Event()
        self._feed = Feed(dsn, channels)
        self._tick = tick_seconds
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        for notice in self._feed.listen(self.stopping, tick_seconds=self._tick):
            self.heard.put(notice)

    def next(self, *, quiet: bool = False) -> Notice | None:
        """The next notice (or, with `quiet`, the next sign that there is none)."""
        while True:
            notice = self.heard.get(timeout=DEADLINE)
            if (notice is None) == quiet:
                return notice

    def until(self, channel: str) -> None:
        """Skip to the next notice of a channel."""
        while True:
            notice = self.next()
            if notice is not None and notice.channel == channel:
                return

    def stop(self) -> None:
        self.stopping.set()
        self.thread.join(DEADLINE)
        assert not self.thread.is_alive()


@pytest.fixture
def listen() -> Iterator[Callable[..., Listener]]:
    made: list[Listener] = []

    def begin(dsn: str, *channels: str, tick: float = 0.2) -> Listener:
        made.append(Listener(dsn, channels or (EVENT,), tick))
        made[-1].until("connected")
        return made[-1]

    yield begin
    for listener in made:
        listener.stop()


def test_every_event_arrives_in_order(bench: Any, listen: Callable[..., Listener]) -> None:
    listener = listen(bench.database.dsn)
    job = bench.job("succeeded")
    heard = [listener.next() for _ in range(4)]
    assert all(notice is not None and notice.channel == EVENT for notice in heard)
    data = [notice.data for notice in heard if notice is not None]
    assert [item["kind"] for item in data] == ["received", "queued", "claimed", "succeeded"]
    assert [item["state"] for item in data] == ["received", "queued", "running", "succeeded"]
    assert {item["job"] for item in data} == {str(job)}
    assert [item["id"] for item in data] == sorted(item["id"] for item in data)


def test_switches_are_told_and_what_is_rolled_back_is_not(bench: Any, listen: Callable[..., Listener]) -> None:
    listener = listen(bench.database.dsn)
    with bench.session() as session:
        control.set_switch(session, "x", {"a": 1})
        session.rollback()
    with bench.session() as session:
        control.declare_pools(session, {"cpu": 1})
        control.pause(session, "cpu", paused=True, actor="u")
    notice = listener.next()
    assert notice == Notice(EVENT, {"kind": "control", "name": "cpu"})


def test_only_the_channels_asked_for_are_heard(bench: Any, listen: Callable[..., Listener]) -> None:
    listener = listen(bench.database.dsn, PROGRESS)
    fence = bench.claim(bench.job("queued")).fence
    with bench.session() as session:
        history.stage_started(session, fence, "separate")
        history.stage_progress(session, fence, "separate", 0.25, "a quarter")
    notice = listener.next()
    assert notice is not None
    assert (notice.channel, notice.data["progress"], notice.data["message"]) == (PROGRESS, 0.25, "a quarter")


def test_silence_is_told_too(bench: Any, listen: Callable[..., Listener]) -> None:
    listener = listen(bench.database.dsn, tick=0.05)
    assert listener.next(quiet=True) is None
    assert listener.next(quiet=True) is None


@pytest.mark.parametrize("payload", ["", "not json", "[1, 2]", "7", '{"half": '])
def test_what_somebody_else_sends_is_passed_over(bench: Any, listen: Callable[..., Listener], payload: str) -> None:
    listener = listen(bench.database.dsn)
    with psycopg.connect(bench.database.dsn, autocommit=True) as other:
        other.execute("SELECT pg_notify(%s, %s)", (EVENT, payload))
    bench.job("received")
    notice = listener.next()
    assert notice is not None
    assert notice.data["kind"] == "received"


def test_a_cut_connection_is_made_again(bench: Any, listen: Callable[..., Listener]) -> None:
    listener = listen(bench.database.dsn)
    bench.rows(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
        "WHERE application_name = 'ironclad-feed' AND datname = current_database()"
    )
    listener.until("connected")
    bench.job("received")
    notice = listener.next()
    assert notice is not None
    assert notice.data["kind"] == "received"


def test_a_restarted_server_is_heard_again(
    listen: Callable[..., Listener], tmp_path_factory: pytest.TempPathFactory
) -> None:
    server = EmbeddedServer(tmp_path_factory.mktemp("feed") / "postgres", {"fsync": "off"})
    server.start()
    try:
        database = Database(server.url())
        schema.upgrade(database)
        listener = listen(database.dsn)
        server.stop()
        assert listener.next(quiet=True) is None  # it goes on, though there is nobody to hear
        server.start()
        listener.until("connected")
        with database.session() as session:
            control.set_switch(session, "after", {"the": "restart"})
        assert listener.next() == Notice(EVENT, {"kind": "control", "name": "after"})
        database.close()
    finally:
        server.release()
        server.stop()


def test_a_feed_that_may_not_listen_leaves_no_connection_behind(bench: Any) -> None:
    feed = Feed(bench.database.dsn, ("\x00",))
    with pytest.raises(psycopg.Error):
        feed._connect()
    ears = (
        "SELECT count(*) FROM pg_stat_activity "
        "WHERE application_name = 'ironclad-feed' AND datname = current_database()"
    )
    while bench.one(ears):  # the server notices a moment later; the test's time limit ends this
        bench.one("SELECT pg_sleep(0.02)")


def test_a_stopped_feed_ends(bench: Any) -> None:
    stopping = threading.Event()
    stopping.set()
    assert list(Feed(bench.database.dsn).listen(stopping, tick_seconds=5)) == []
