from __future__ import annotations

import os
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from ironclad.errors import DiskFull, SourceUnreadable
from ironclad.ingest.claim import Outcome
from ironclad.ingest.register import Register
from ironclad.ingest.stability import Print
from ironclad.jobs.states import JobState

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "a.mp3"
    path.write_bytes(b"abc")
    return path


def make(*, keeps: bool = False) -> Register:
    return Register("/in", 5.0, keeps=keeps)


def test_a_file_is_observed_once_and_written_down(file: Path) -> None:
    register = make()
    register.observe("a.mp3", file.lstat(), 10.0)
    register.observe("a.mp3", file.lstat(), 12.0)
    assert register.tracker.next_due() == 15.0
    assert register.to_write
    register.written()
    assert not register.to_write


def test_an_event_prolongs_a_look_does_not(file: Path) -> None:
    register = make()
    register.observe("a.mp3", file.lstat(), 10.0)
    register.observe("a.mp3", file.lstat(), 12.0, stir=True)
    assert register.tracker.next_due() == 17.0


def test_what_is_a_job_is_not_observed_again_until_it_changes(file: Path) -> None:
    register = make(keeps=True)
    register.observe("a.mp3", file.lstat(), 10.0)
    register.handed("a.mp3", Print.of(file.lstat()))
    register.observe("a.mp3", file.lstat(), 20.0, stir=True)
    assert "a.mp3" not in register.tracker
    assert register.knows("a.mp3")
    assert register.is_job("a.mp3", file.lstat())
    file.write_bytes(b"abcd")
    register.observe("a.mp3", file.lstat(), 30.0)
    assert "a.mp3" in register.tracker


def test_a_moved_file_frees_its_name_and_a_copied_one_does_not(file: Path) -> None:
    found = Print.of(file.lstat())
    queued = Outcome(uuid4(), JobState.QUEUED)
    for keeps in (False, True):
        register = make(keeps=keeps)
        register.handed("a.mp3", found)
        register.settled("a.mp3", found, queued)
        assert register.knows("a.mp3") is keeps


def test_an_unfinished_claim_keeps_its_name_and_says_why(file: Path) -> None:
    register, found = make(), Print.of(file.lstat())
    register.handed("a.mp3", found)
    register.settled("a.mp3", found, Outcome(uuid4(), JobState.RECEIVED, DiskFull("x")))
    assert register.knows("a.mp3")
    assert register.to_write


def test_a_file_that_changed_during_its_claim_is_observed_again(file: Path) -> None:
    register, found = make(keeps=True), Print.of(file.lstat())
    register.handed("a.mp3", found)
    register.settled("a.mp3", found, Outcome(uuid4(), JobState.CANCELLED, changed=True))
    register.observe("a.mp3", file.lstat(), 1.0)
    assert "a.mp3" in register.tracker


def test_a_refused_file_is_left_alone_and_an_unreadable_one_is_remembered(file: Path) -> None:
    register, found = make(), Print.of(file.lstat())
    register.handed("a.mp3", found)
    register.settled("a.mp3", found, Outcome(uuid4(), JobState.FAILED, SourceUnreadable("x")))
    assert register.unreadable == ["a.mp3"]
    register.observe("a.mp3", file.lstat(), 1.0)
    assert "a.mp3" not in register.tracker
    register.forget_job("a.mp3")
    assert register.unreadable == []
    register.observe("a.mp3", file.lstat(), 1.0)
    assert "a.mp3" in register.tracker


def test_renames(file: Path) -> None:
    register = make(keeps=True)
    status = file.lstat()
    register.renamed("new.mp3", status, 1.0, old=None, finished=True)
    assert register.tracker.take_due(1.0) == ["new.mp3"]
    register.renamed("newer.mp3", status, 2.0, old="new.mp3", finished=False)
    assert register.tracker.paths() == ["newer.mp3"]
    register.renamed("unknown.mp3", status, 2.0, old="never-seen.mp3", finished=False)
    assert register.tracker.take_due(6.9) == ["newer.mp3"]
    assert register.tracker.take_due(7.0) == ["unknown.mp3"]
    register.handed("newer.mp3", Print.of(status))
    register.renamed("job.mp3", status, 3.0, old="newer.mp3", finished=False)
    assert "job.mp3" not in register.tracker
    assert register.is_job("job.mp3", status)
    assert not register.knows("newer.mp3")


def test_another_version_under_the_name_of_a_job_is_a_new_file(file: Path) -> None:
    register = make(keeps=True)
    register.handed("a.mp3", Print.of(file.lstat()))
    os.utime(file, ns=(1, 1))
    register.renamed("a.mp3", file.lstat(), 1.0, old=None, finished=True)
    assert register.tracker.take_due(1.0) == ["a.mp3"]


def test_gone(file: Path) -> None:
    register = make()
    register.observe("a.mp3", file.lstat(), 1.0)
    register.gone("a.mp3")
    register.gone("a.mp3")
    assert register.known_paths == []
    assert register.to_write
