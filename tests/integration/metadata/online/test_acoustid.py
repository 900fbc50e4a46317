"""AcoustID over the network of one machine: what is sent, what is kept, and what its refusals and outages do."""

from __future__ import annotations

import multiprocessing
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from ironclad.db.session import Database
from ironclad.errors import Cancelled, MetadataServiceUnavailable
from ironclad.metadata.acoustid import AcoustId, Service
from ironclad.metadata.cache import FileCache
from ironclad.metadata.http import Manners
from ironclad.metadata.rate import FileGate
from ironclad.metadata.shared import DatabaseCache, DatabaseGate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

INTERVAL = 0.34
EACH = 4
EXACT = 0.01
"""Seconds by which clocks of one machine may differ."""
PRINT = "AQAAS8siScqURAnuF8"


@pytest.fixture
def acoustid(service: Any, manners: Manners, tmp_path: Path) -> Iterator[Callable[..., AcoustId]]:
    """`acoustid()`: a client; all of one test share a cache."""
    made: list[AcoustId] = []

    def make(key: str = "the-key", check: Callable[[], None] | None = None, **changes: Any) -> AcoustId:
        where = Service(client_key=key, url=service.url, manners=replace(manners, **changes))
        made.append(AcoustId(where, FileGate(tmp_path / "gate"), FileCache(tmp_path / "cache"), check=check))
        return made[-1]

    yield make
    for client in made:
        client.close()


def test_recordings_come_with_how_sure_it_is_surest_first(acoustid: Callable[..., AcoustId], service: Any) -> None:
    service.sounds[PRINT] = {"rec2": 0.4, "rec1": 0.96}
    assert list(acoustid().recordings(PRINT, 210.4).items()) == [("rec1", 0.96), ("rec2", 0.4)]
    (asked,) = service.asked
    assert asked.path == "/v2/lookup"
    assert asked.query == {
        "client": ["the-key"], "format": ["json"], "meta": ["recordings"], "duration": ["210"], "fingerprint": [PRINT],
    }  # fmt: skip
    assert asked.agent.startswith("Ironclad/")


@pytest.mark.parametrize("fault", ["503", "502", "drop", "cut", "half", "html"])
def test_a_fault_is_asked_again(fault: str, acoustid: Callable[..., AcoustId], service: Any) -> None:
    service.sounds[PRINT] = {"rec1": 0.9}
    service.faults.extend([fault, fault])
    assert acoustid().recordings(PRINT, 210) == {"rec1": 0.9}
    assert len(service.asked) == 3


@pytest.mark.parametrize("fault", ["503", "drop", "html"])
def test_one_that_stays_down_is_given_up(fault: str, acoustid: Callable[..., AcoustId], service: Any) -> None:
    service.faults.extend([fault] * 9)
    with pytest.raises(MetadataServiceUnavailable, match="4 attempts"):
        acoustid().recordings(PRINT, 210)
    assert len(service.asked) == 4


def test_a_silent_one_is_given_up(acoustid: Callable[..., AcoustId], service: Any) -> None:
    service.faults.append("slow")
    with pytest.raises(MetadataServiceUnavailable, match="1 attempts"):
        acoustid(timeout=0.1, attempts=1).recordings(PRINT, 210)


def test_a_refused_key_is_said_once_and_is_in_no_message(acoustid: Callable[..., AcoustId], service: Any) -> None:
    with pytest.raises(MetadataServiceUnavailable, match=r"invalid API key \(its error 4\)") as raised:
        acoustid(key="wrong-one").recordings(PRINT, 210)
    assert len(service.asked) == 1
    assert "wrong-one" not in f"{raised.value} {raised.value.to_dict()}"
    assert "wrong-one" not in repr(Service(client_key="wrong-one"))
    service.sounds[PRINT] = {"rec1": 0.9}  # the refusal was not kept
    assert acoustid().recordings(PRINT, 210) == {"rec1": 0.9}


def test_a_fingerprint_that_it_does_not_take_has_no_recordings(acoustid: Callable[..., AcoustId], service: Any) -> None:
    assert acoustid().recordings("broken", 210) == {}
    assert len(service.asked) == 1


def test_a_second_run_asks_nothing_even_where_nothing_was_known(
    acoustid: Callable[..., AcoustId], service: Any
) -> None:
    service.sounds[PRINT] = {"rec1": 0.9}
    first = [acoustid().recordings(text, 210) for text in (PRINT, "unknown")]
    assert [acoustid().recordings(text, 210) for text in (PRINT, "unknown")] == first == [{"rec1": 0.9}, {}]
    assert len(service.asked) == 2


def test_waiting_can_be_cancelled(acoustid: Callable[..., AcoustId], service: Any) -> None:
    def stop() -> None:
        raise Cancelled

    acoustid(interval=60.0).recordings(PRINT, 210)  # takes the first point in time
    with pytest.raises(Cancelled):
        acoustid(interval=60.0, check=stop).recordings("other", 210)
    assert len(service.asked) == 1


def ask(dsn: str, url: str, worker: int, begun: Any) -> None:
    database = Database(dsn)
    where = Service(client_key="the-key", url=url, manners=Manners(interval=INTERVAL, timeout=60))
    with AcoustId(where, DatabaseGate(database, "acoustid"), DatabaseCache(database)) as client:
        begun.put(time.time())
        for number in range(EACH):
            client.recordings(f"{worker}-{number}", 210)
    database.close()


def test_two_workers_together_keep_three_a_second(database_url: str, service: Any) -> None:
    spawn = multiprocessing.get_context("spawn")
    begun = spawn.SimpleQueue()
    workers = [spawn.Process(target=ask, args=(database_url, service.url, number, begun)) for number in range(2)]
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
