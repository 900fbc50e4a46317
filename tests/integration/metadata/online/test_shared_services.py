"""What workers share through the database: one request a second, answers, and the knowledge of an outage."""

from __future__ import annotations

import multiprocessing
import threading
import time
from typing import Any

from ironclad.db.session import Database
from ironclad.metadata.cache import Cached
from ironclad.metadata.http import Manners
from ironclad.metadata.musicbrainz import MusicBrainz, Service
from ironclad.metadata.shared import DatabaseCache, DatabaseGate, Outage

INTERVAL = 1.0
EACH = 3
EXACT = 0.01
"""Seconds by which clocks of one machine may differ."""


def ask(dsn: str, url: str, worker: int, interval: float, begun: Any) -> None:
    """A worker of its own: asks for what nobody asked before."""
    database = Database(dsn)
    where = Service(url=url, manners=Manners(interval=interval, timeout=60))
    with MusicBrainz(where, DatabaseGate(database, "musicbrainz"), DatabaseCache(database)) as client:
        begun.put(time.time())
        for number in range(EACH):
            client.search(title=f"{worker} {number}", artist="Ann")
    database.close()


def test_two_workers_together_keep_the_rate(database_url: str, service: Any) -> None:
    spawn = multiprocessing.get_context("spawn")
    begun = spawn.SimpleQueue()
    workers = [spawn.Process(target=ask, args=(database_url, service.url, n, INTERVAL, begun)) for n in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
    assert [worker.exitcode for worker in workers] == [0, 0]
    first = min(begun.get() for _ in workers)
    begun.close()
    times = sorted(asked.at for asked in service.asked)
    assert len(times) == 2 * EACH
    print(f"2 workers, {len(times)} requests at", [round(at - first, 2) for at in times])  # noqa: T201 - a figure
    # However late a request is sent, it is never before its point in time, and the first point is not before this.
    assert all(at - first > INTERVAL * number - EXACT for number, at in enumerate(times)), times


def test_points_follow_each_other_whoever_asks(database: Database) -> None:
    points: list[float] = []
    gates = [DatabaseGate(database, "one") for _ in range(8)]

    def reserve(gate: DatabaseGate) -> None:
        points.append(gate.reserve(100.0))

    threads = [threading.Thread(target=reserve, args=(gate,)) for gate in gates]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [round(point, -2) for point in sorted(points)] == [100.0 * number for number in range(8)]
    assert DatabaseGate(database, "other").reserve(100.0) == 0.0


def test_a_service_of_ones_own_needs_no_point(database: Database) -> None:
    assert [DatabaseGate(database, "own").reserve(0.0) for _ in range(3)] == [0.0] * 3


def test_a_clock_that_was_set_back_blocks_nobody(database_url: str, database: Database) -> None:
    ahead = Database(database_url, clock_offset="2 days")
    DatabaseGate(ahead, "one").reserve(600.0)
    ahead.close()
    assert DatabaseGate(database, "one").reserve(600.0) == 0.0
    assert 300 < DatabaseGate(database, "one").reserve(600.0) <= 600


def test_answers_are_shared_until_they_expire(database_url: str, database: Database) -> None:
    cache = DatabaseCache(database)
    assert cache.get("k") is None
    cache.put("k", b"\x00\xffanswer", seconds=100)
    cache.put("nothing", None, seconds=100)
    assert DatabaseCache(database).get("k") == Cached(b"\x00\xffanswer")
    assert cache.get("nothing") == Cached(None)
    cache.put("k", b"newer", seconds=100)
    assert cache.get("k") == Cached(b"newer")
    later = Database(database_url, clock_offset="200 seconds")
    assert DatabaseCache(later).get("k") is None
    DatabaseCache(later).put("other", b"x", seconds=10)  # sweeps the expired ones away
    later.close()
    assert cache.get("k") is None


def test_an_outage_is_known_for_a_while(database_url: str, database: Database) -> None:
    outage = Outage(database, "s")
    assert not outage.lasts()
    outage.begin(60)
    assert Outage(database, "s").lasts()
    assert not Outage(database, "t").lasts()
    later = Database(database_url, clock_offset="61 seconds")
    assert not Outage(later, "s").lasts()
    later.close()
    outage.begin(60)
    outage.end()
    assert not outage.lasts()
