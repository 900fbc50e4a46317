from __future__ import annotations

import subprocess
import sys
import time
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from ironclad import __version__
from ironclad.errors import Cancelled, MetadataServiceUnavailable
from ironclad.metadata.candidate import Candidate
from ironclad.metadata.lookup import Status, apply, look_up
from ironclad.metadata.model import TrackTags

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ironclad.metadata.musicbrainz import MusicBrainz

    Client = Callable[..., MusicBrainz]

EXACT = 0.01
"""Seconds by which clocks of one machine may differ."""
FOUND = Candidate(
    recording_id="rec1", title="Song", artists=("Ann X", "Bob"), artist_credit="Ann X feat. Bob",
    artist_ids=("a1", "a2"), length_ms=210_000, isrcs=("USABC0100001",), album="Album", album_id="r1",
    release_group_id="rg1",
    album_artists=("Ann",), album_artist_ids=("a1",), track_id="t1", track=3, track_total=12, disc=2, disc_total=2,
    date="2001-05-03", country="GB", status="Official", release_types=("album",),
)  # fmt: skip


def test_a_recording_by_its_id(client: Client, service: Any) -> None:
    found = client().recording("rec1")
    assert FOUND in found
    assert [candidate.album_id for candidate in found] == ["r-bootleg", "r1"]
    (asked,) = service.asked
    assert asked.path == "/ws/2/recording/rec1"
    assert asked.agent == f"Ironclad/{__version__} ( test@example.org )"


def test_a_search_quotes_what_it_looks_for(client: Client, service: Any) -> None:
    assert client().search(title='So "what"?', artist="AC/DC", album="A:B")
    assert client().search(title="x", artist="y", album="A", album_id="r1")
    assert [asked.query["query"] for asked in service.asked] == [
        [r'recording:"So \"what\"\?" AND artist:"AC\/DC" AND release:"A\:B"'],
        ['recording:"x" AND artist:"y" AND reid:"r1"'],
    ]


def test_an_id_cannot_leave_its_place_in_the_path(client: Client, service: Any) -> None:
    assert client().recording("../../evil?x=1") == ()
    assert service.asked[0].path == "/ws/2/recording/..%2F..%2Fevil%3Fx%3D1"


def test_tags_that_hold_a_novel_fail_nothing(client: Client, service: Any) -> None:
    novel = "日本 " * 30_000
    assert client().recording(novel) == ()
    assert client().search(title="Song", artist="Ann", album="Album", album_id=novel)
    tags = TrackTags(title=novel, artists=(novel,), musicbrainz_recording_id=novel)
    assert look_up(tags, 210.0, client()).status is Status.AMBIGUOUS
    assert [asked.path for asked in service.asked] == ["/ws/2/recording"] * 2
    first, second = (asked.query["query"][0] for asked in service.asked)
    assert first == 'recording:"Song" AND artist:"Ann" AND release:"Album"'
    begun = " ".join(["日本"] * 66)
    assert second == f'recording:"{begun}" AND artist:"{begun}"'


@pytest.mark.parametrize("fault", ["503", "502", "slow", "drop", "cut", "half", "html", "other"])
def test_a_fault_is_asked_again(fault: str, client: Client, service: Any) -> None:
    service.faults.append(fault)
    assert FOUND in client(timeout=0.5 if fault == "slow" else 60).recording("rec1")
    # Who has so little patience may have too little for the good answer, too, where the machine is busy.
    assert len(service.asked) == 2 or (fault == "slow" and len(service.asked) in {3, 4})


@pytest.mark.parametrize("fault", ["503", "drop", "html"])
def test_a_service_that_stays_down_is_given_up_and_fails_nothing(fault: str, client: Client, service: Any) -> None:
    service.faults.extend([fault] * 8)
    with pytest.raises(MetadataServiceUnavailable, match="4 attempts"):
        client().recording("rec1")
    assert len(service.asked) == 4
    lookup = look_up(TrackTags(title="Song", artists=("Ann",)), 210, client())
    assert lookup.status is Status.UNAVAILABLE
    assert len(service.asked) == 8


def test_an_endless_answer_is_given_up(client: Client, service: Any) -> None:
    service.recordings = ["<x/>" * 10_000]
    with pytest.raises(MetadataServiceUnavailable, match="longer than 1000 bytes"):
        client(max_bytes=1000, attempts=1).search(title="x", artist="y")
    with pytest.raises(MetadataServiceUnavailable, match="took longer"):
        client(total_seconds=0, attempts=1).search(title="x", artist="y")


def test_recordings_of_another_shape_are_left_out(client: Client, service: Any) -> None:
    service.recordings = ['<recording id="broken"/>', *service.recordings]
    assert FOUND in client().search(title="x", artist="y")


def test_nobody_listening_is_unavailable_too(client: Client, service: Any) -> None:
    service.url = "http://127.0.0.1:9"
    assert look_up(TrackTags(title="S", artists=("A",)), None, client()).status is Status.UNAVAILABLE


def test_a_second_run_asks_nothing(client: Client, service: Any) -> None:
    queries: list[Callable[[MusicBrainz], object]] = [
        lambda one: one.recording("rec1"),
        lambda one: one.recording("missing"),
        lambda one: one.search(title="Song", artist="Ann"),
    ]
    first = [query(client()) for query in queries]
    count = len(service.asked)
    assert count == 3
    assert [query(client()) for query in queries] == first
    assert len(service.asked) == count, "misses are kept as well"
    client(cache="another").recording("rec1")
    assert len(service.asked) == count + 1


def test_a_fault_is_never_kept(client: Client, service: Any) -> None:
    service.faults.extend(["html"] * 4)
    with pytest.raises(MetadataServiceUnavailable):
        client().recording("rec1")
    assert client().recording("rec1")


def test_one_request_a_second_for_all(client: Client, service: Any) -> None:
    one, other = client(cache="one", interval=0.2), client(cache="other", interval=0.2)
    begun = time.time()
    for number in range(3):
        one.recording(f"x{number}")
        other.recording(f"x{number}")
    times = [asked.at for asked in service.asked]
    assert len(times) == 6
    # However late a request is (a busy machine), it is never before its turn, and the first turn is not before this.
    assert all(at - begun > 0.2 * number - EXACT for number, at in enumerate(times)), times


WORKER = """
import sys, time
from pathlib import Path
from ironclad.metadata.cache import FileCache
from ironclad.metadata.http import Manners
from ironclad.metadata.musicbrainz import MusicBrainz, Service
from ironclad.metadata.rate import FileGate

looked = []

def clock():
    looked.append(time.time())
    return looked[-1]

class Noted(FileGate):
    def reserve(self, interval):
        seconds = super().reserve(interval)
        print(looked[-1] + seconds)  # the very point in time that it took
        return seconds

url, gate, cache = sys.argv[1:]
where = Service(url, Manners(interval=0.25, timeout=60))
with MusicBrainz(where, Noted(Path(gate), clock=clock), FileCache(Path(cache))) as client:
    for number in range(4):
        client.recording(f"{cache[-1]}{number}")
"""


def test_two_processes_keep_the_rate_together(service: Any, tmp_path: Path) -> None:
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, service.url, str(tmp_path / "gate"), str(tmp_path / name)],
            stdout=subprocess.PIPE, text=True,
        )
        for name in ("a", "b")
    ]  # fmt: skip
    said = [worker.communicate(timeout=120)[0] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0]
    points = sorted(float(line) for text in said for line in text.splitlines())
    times = sorted(asked.at for asked in service.asked)
    assert (len(points), len(times)) == (8, 8)
    assert {asked.path[-2] for asked in service.asked} == {"a", "b"}
    assert all(later - earlier > 0.25 - EXACT for earlier, later in pairwise(points)), points
    # A busy machine may delay any request towards the next: their distances say nothing, but none is before its turn.
    assert all(at > point - EXACT for point, at in zip(points, times, strict=True)), (points, times)


def test_waiting_can_be_cancelled(client: Client, tmp_path: Path) -> None:
    (tmp_path / "gate").write_text(f"{time.time() + 60:.3f}")

    def check() -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        client(check=check).recording("rec1")


def test_a_track_is_completed(client: Client) -> None:
    tags = TrackTags(title="Song", artists=("Ann X",), album="Unknown Album", genres=("Rock",))
    lookup = look_up(tags, 210.5, client())
    assert lookup.status is Status.MATCHED
    done = apply(tags, lookup.candidates[0][1])
    assert done.tags.album == "Album"
    assert done.tags.musicbrainz_recording_id == "rec1"
    assert (done.tags.track, done.tags.disc, done.tags.date) == (3, 2, "2001-05-03")
    assert done.tags.genres == ("Rock",)
    assert done.tags.artists == ("Ann X",)
    assert "album" in done.origins
    assert "genres" not in done.origins
