from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from ironclad.config import WatchRoot
from ironclad.errors import DiskFull
from ironclad.ingest import claim, observations
from ironclad.ingest.claim import Outcome
from ironclad.ingest.observations import Noted
from ironclad.ingest.register import Register
from ironclad.ingest.stability import Print
from ironclad.ingest.why import Explanation, Verdict, why
from ironclad.jobs import control, submit
from ironclad.jobs.states import JobState

if TYPE_CHECKING:
    Bench = Any  # conftest's


def ask(bench: Bench, path: Path) -> Explanation:
    told = why(bench.database, bench.settings, path)
    assert json.loads(json.dumps(told.to_dict()))["verdict"] == told.verdict.value
    assert told.sentence[0].isupper()
    return told


def note(bench: Bench, path: Path, **more: Any) -> None:
    """What a watcher would have written down of a file."""
    below = str(path.relative_to(bench.input))
    with bench.database.session() as session:
        observations.note(session, str(bench.input), [Noted(below, Print.of(path.lstat()), **more)])


def test_a_growing_file(bench: Bench) -> None:
    bench.configure(stability_seconds=100.0)
    path = bench.drop("ana/1.mp3", b"12345")
    begun = time.monotonic()
    note(bench, path, status="growing", age_seconds=10.0)
    told = ask(bench, path)
    spent = time.monotonic() - begun
    assert told.verdict is Verdict.GROWING
    assert told.details["size"] == 5
    assert told.details["user"] == "ana"
    assert 9 <= told.details["quiet_seconds"] <= 11 + spent
    assert 89 - spent <= told.details["taken_in_seconds"] <= 91
    assert "5 bytes" in told.sentence


def test_a_file_that_grew_since_it_was_last_written_down(bench: Bench) -> None:
    bench.configure(stability_seconds=100.0)
    path = bench.drop("ana/1.mp3", b"12345")
    note(bench, path, status="growing", age_seconds=50.0)
    begun = time.monotonic()
    path.write_bytes(b"1234567")
    told = ask(bench, path)
    assert told.details["size"] == 7
    assert told.details["quiet_seconds"] < 5 + time.monotonic() - begun


def test_a_quiet_file_that_cannot_be_taken(bench: Bench) -> None:
    path = bench.drop("ana/1.mp3")
    note(bench, path, status="growing", reason="A program has it open for writing.", age_seconds=10.0)
    told = ask(bench, path)
    assert told.verdict is Verdict.WAITING
    assert "open for writing" in told.sentence


def test_a_file_that_no_watcher_has_seen(bench: Bench) -> None:
    told = ask(bench, bench.drop("ana/1.mp3"))
    assert told.verdict is Verdict.UNSEEN
    assert told.details["watched_by"] == "nobody"


@pytest.mark.parametrize(
    ("name", "rule"),
    [("ana/1.mp3.part", "temporary-name"), ("ana/.hid/1.mp3", "hidden"), ("ana/cover.jpg", "sidecar"),
     ("ana/1.txt.zip", "no-audio-suffix")],
)  # fmt: skip
def test_an_ignored_file_names_its_rule(bench: Bench, name: str, rule: str) -> None:
    told = ask(bench, bench.drop(name))
    assert (told.verdict, told.details["rule"]) == (Verdict.IGNORED, rule)
    assert told.hint


def test_links_and_foreign_folders_are_explained(bench: Bench, tmp_path: Path) -> None:
    path = bench.drop("ana/1.mp3")
    link = bench.input / "ana" / "2.mp3"
    link.symlink_to(path)
    assert ask(bench, link).details["rule"] == "link-inside"
    other = bench.input / "special"
    bench.configure(WatchRoot(path=bench.input), WatchRoot(path=other, user="zoe"))
    assert ask(bench, bench.drop("special/1.mp3")).details["user"] == "zoe"
    bench.configure(WatchRoot(path=tmp_path))
    foreign = bench.drop("1.mp3", root=bench.settings.layout.output)
    assert ask(bench, foreign).details["rule"] == "other-place"


def test_a_claimed_file_and_the_name_in_the_archive(bench: Bench) -> None:
    path = bench.drop("ana/1.mp3")
    outcome = claim.take(bench.database, bench.settings, bench.new(path))
    told = ask(bench, path)
    assert (told.verdict, told.job_uuid) == (Verdict.CLAIMED, outcome.job_uuid)
    assert "waits for a worker" in told.sentence
    archived = bench.settings.layout.archive_of(outcome.job_uuid) / "original.mp3"
    assert ask(bench, archived).job_uuid == outcome.job_uuid


def test_another_file_with_the_name_of_an_earlier_one(bench: Bench) -> None:
    path = bench.drop("ana/1.mp3")
    claim.take(bench.database, bench.settings, bench.new(path))
    bench.drop("ana/1.mp3", b"the next song")
    assert ask(bench, path).verdict is Verdict.UNSEEN


def test_a_copied_file_is_still_there_and_claimed(bench: Bench) -> None:
    path = bench.drop("ana/1.mp3")
    outcome = claim.take(bench.database, bench.settings, bench.new(path, "copy"))
    told = ask(bench, path)
    assert (told.verdict, told.job_uuid) == (Verdict.CLAIMED, outcome.job_uuid)


def test_a_duplicate_names_the_job_it_repeats(bench: Bench) -> None:
    first = claim.take(bench.database, bench.settings, bench.new(bench.drop("ana/1.mp3")))
    path = bench.drop("ben/2.mp3")
    claim.take(bench.database, bench.settings, bench.new(path))
    told = ask(bench, path)
    assert told.verdict is Verdict.DUPLICATE
    assert told.details["duplicate_of"] == str(first.job_uuid)
    assert str(first.job_uuid) in told.sentence


def test_a_refused_file_names_the_error(bench: Bench) -> None:
    path = bench.drop("ana/1.mp3")
    new = bench.new(path)
    with bench.database.session() as session:
        job_uuid = submit.receive(session, new, bench.settings).job_uuid
    path.unlink()
    claim.finish(bench.database, bench.settings, job_uuid)
    told = ask(bench, path)
    assert told.verdict is Verdict.REFUSED
    assert told.details["code"] == "E_SOURCE_MISSING"
    assert told.hint


def test_a_cancelled_job(bench: Bench) -> None:
    path = bench.drop("ana/1.mp3")
    outcome = claim.take(bench.database, bench.settings, bench.new(path))
    with bench.database.session() as session:
        control.cancel(session, outcome.job_uuid, actor="user:ana")
    assert "cancelled" in ask(bench, path).sentence


def test_a_claim_that_waits_says_for_what(bench: Bench) -> None:
    path = bench.drop("ana/1.mp3")
    with bench.database.session() as session:
        job_uuid = submit.receive(session, bench.new(path), bench.settings).job_uuid
        register = Register(str(bench.input), 1.0, keeps=False)
        found = Print.of(path.lstat())
        register.handed("ana/1.mp3", found)
        register.settled("ana/1.mp3", found, Outcome(job_uuid, JobState.RECEIVED, DiskFull("3 bytes are free")))
        register.flush(session, 0.0)
    told = ask(bench, path)
    assert told.verdict is Verdict.WAITING
    assert "3 bytes are free" in told.sentence
    assert told.job_uuid == job_uuid


def test_a_file_that_went_away(bench: Bench) -> None:
    path = bench.drop("ana/1.mp3")
    note(bench, path, status="gone", reason="it was renamed to ana/2.mp3")
    path.unlink()
    told = ask(bench, path)
    assert told.verdict is Verdict.GONE
    assert "ana/2.mp3" in told.sentence


def test_a_file_that_never_was(bench: Bench) -> None:
    assert ask(bench, bench.input / "ana" / "none.mp3").verdict is Verdict.MISSING


def test_a_file_below_no_root(bench: Bench, tmp_path: Path) -> None:
    told = ask(bench, bench.drop("x.mp3", root=tmp_path))
    assert told.verdict is Verdict.OUTSIDE
    assert str(bench.input) in told.hint


def test_a_file_below_no_root_that_never_was(bench: Bench, tmp_path: Path) -> None:
    assert ask(bench, tmp_path / "none.mp3").verdict is Verdict.MISSING


def test_a_submitted_file_below_no_root_is_its_job(bench: Bench, tmp_path: Path) -> None:
    path = bench.drop("x.mp3", root=tmp_path)
    outcome = claim.take(bench.database, bench.settings, bench.new(path, "copy"))
    assert ask(bench, path).job_uuid == outcome.job_uuid


def test_a_root_that_is_gone(bench: Bench) -> None:
    path = bench.drop("ana/1.mp3")
    bench.input.rename(bench.input.with_name("away"))
    told = ask(bench, path)
    assert told.verdict is Verdict.UNKNOWN
    assert "mount" in told.hint


def test_a_name_that_no_terminal_shows(bench: Bench) -> None:
    path = bench.drop("ana/a\nb\udcff.mp3")
    told = ask(bench, path)
    assert told.path.endswith("a\\nb\\xff.mp3")
    outcome = claim.take(bench.database, bench.settings, bench.new(path))
    assert ask(bench, path).job_uuid == outcome.job_uuid


def test_a_relative_path_is_understood(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    path = bench.drop("ana/1.mp3")
    monkeypatch.chdir(path.parent)
    assert ask(bench, Path("1.mp3")).path == str(path)


def test_observations_are_forgotten_in_the_end(bench: Bench) -> None:
    paths = {status: bench.drop(f"ana/{status}.mp3") for status in ("growing", "claimed", "refused", "gone")}
    for status, path in paths.items():
        note(bench, path, status=status, age_seconds=40 * 86400.0)
    note(bench, bench.drop("ana/fresh.mp3"), status="gone")
    root = str(bench.input)
    with bench.database.session() as session:
        assert observations.prune(session, root, moved=False) == 1
        assert observations.prune(session, root, moved=True) == 1
        left = session.scalars(sa.text("SELECT path FROM observation ORDER BY path")).all()
    assert left == [
        "ana/fresh.mp3",
        "ana/growing.mp3",
        "ana/refused.mp3",
    ]  # that one is there: it would be refused again
    away = bench.input.rename(bench.input.with_name("unmounted"))
    with bench.database.session() as session:
        assert observations.prune(session, root, moved=True) == 0
    away.rename(bench.input)
    paths["refused"].unlink()
    with bench.database.session() as session:
        assert observations.prune(session, root, moved=True) == 1


def test_when_a_file_was_first_seen_stays_while_it_grows(bench: Bench) -> None:
    path = bench.drop("ana/1.mp3")
    note(bench, path, status="growing")
    with bench.database.session() as session:
        first = observations.of_file(session, str(bench.input), "ana/1.mp3")
    os.utime(path, (5, 5))
    note(bench, path, status="growing")
    with bench.database.session() as session:
        second = observations.of_file(session, str(bench.input), "ana/1.mp3")
    assert first is not None
    assert second is not None
    assert second.first_seen_at == first.first_seen_at
    assert second.mtime_ns == 5_000_000_000
