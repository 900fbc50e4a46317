from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING
from uuid import UUID

import pytest
import sqlalchemy as sa
from blake3 import blake3

from ironclad import durable
from ironclad.errors import DiskFull, SourceMissing
from ironclad.ingest import claim
from ironclad.jobs import control, submit
from ironclad.jobs.states import JobState
from ironclad.jobs.submit import AlreadyReceived

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    Bench = Any  # conftest's

OTHER_FILE_SYSTEM = "/dev/shm"


def received(bench: Bench, path: Path, mode: str = "move") -> UUID:
    with bench.database.session() as session:
        return UUID(str(submit.receive(session, bench.new(path, mode), bench.settings).job_uuid))


def take(bench: Bench, path: Path, mode: str = "move", **more: Any) -> claim.Outcome:
    return claim.take(bench.database, bench.settings, bench.new(path, mode, **more))


def finish(bench: Bench, job_uuid: UUID, *, wait: bool = True) -> claim.Outcome:
    return claim.finish(bench.database, bench.settings, job_uuid, wait=wait)


def test_a_moved_file_is_in_the_archive_and_nowhere_else(bench: Bench) -> None:
    path = bench.drop("ana/Album/01 - ünï\n✨.FLAC", b"music" * 1000)
    inode = path.stat().st_ino
    outcome = take(bench, path)
    assert outcome.state is JobState.QUEUED
    (job,) = bench.jobs()
    kept = bench.archived(job)
    assert kept.name == "original.flac"
    assert kept.read_bytes() == b"music" * 1000
    assert kept.stat().st_ino == inode
    assert not path.exists()
    assert job.content_hash == blake3(b"music" * 1000).hexdigest()


def test_a_copied_file_stays_and_is_claimed_once(bench: Bench) -> None:
    path = bench.drop("ana/a.mp3")
    assert take(bench, path, "copy").state is JobState.QUEUED
    assert path.read_bytes() == b"music"
    (job,) = bench.jobs()
    assert bench.archived(job).read_bytes() == b"music"
    assert bench.archived(job).stat().st_ino != path.stat().st_ino
    with pytest.raises(AlreadyReceived) as caught:
        take(bench, path, "copy")
    assert caught.value.job_uuid == job.job_uuid


def test_a_linked_file_shares_its_bytes(bench: Bench) -> None:
    path = bench.drop("ana/a.mp3")
    assert take(bench, path, "link").state is JobState.QUEUED
    (job,) = bench.jobs()
    assert bench.archived(job).stat().st_ino == path.stat().st_ino


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """A folder on another file system than the data folder."""
    import tempfile  # noqa: PLC0415 - this fixture alone
    from pathlib import Path as RealPath  # noqa: PLC0415 - likewise

    if not os.access(OTHER_FILE_SYSTEM, os.W_OK) or os.stat(OTHER_FILE_SYSTEM).st_dev == tmp_path.stat().st_dev:  # noqa: PTH116 - a device number
        pytest.skip("there is only one file system to write to")
    with tempfile.TemporaryDirectory(dir=OTHER_FILE_SYSTEM) as folder:
        yield RealPath(folder)


def test_from_another_file_system_a_file_is_copied_and_then_removed(bench: Bench, elsewhere: Path) -> None:
    path = bench.drop("a.mp3", b"far" * 100_000, elsewhere)
    assert take(bench, path).state is JobState.QUEUED
    (job,) = bench.jobs()
    assert bench.archived(job).read_bytes() == b"far" * 100_000
    assert [p.name for p in bench.archived(job).parent.iterdir()] == ["original.mp3"]
    assert not path.exists()


def test_a_copy_whose_source_was_not_removed_yet_is_finished(bench: Bench, elsewhere: Path) -> None:
    path = bench.drop("a.mp3", b"far", elsewhere)
    job_uuid = received(bench, path)
    (job,) = bench.jobs()
    bench.archived(job).parent.mkdir()
    durable.copy_verified(path, bench.archived(job))
    assert finish(bench, job_uuid).state is JobState.QUEUED
    assert not path.exists()


def test_another_file_that_took_the_name_meanwhile_is_not_removed(bench: Bench, elsewhere: Path) -> None:
    path = bench.drop("a.mp3", b"far", elsewhere)
    job_uuid = received(bench, path)
    (job,) = bench.jobs()
    bench.archived(job).parent.mkdir()
    durable.move(path, bench.archived(job))
    path.write_bytes(b"the next one")
    assert finish(bench, job_uuid).state is JobState.QUEUED
    assert path.read_bytes() == b"the next one"


def test_the_part_that_a_killed_copy_left_is_removed(bench: Bench) -> None:
    path = bench.drop("ana/a.mp3")
    job_uuid = received(bench, path, "copy")
    (job,) = bench.jobs()
    folder = bench.archived(job).parent
    folder.mkdir()
    (folder / ".original.mp3.4711.part").write_bytes(b"mu")
    assert finish(bench, job_uuid).state is JobState.QUEUED
    assert [p.name for p in folder.iterdir()] == ["original.mp3"]


def test_a_full_disk_is_noticed_before_anything_is_written(bench: Bench) -> None:
    path = bench.drop("ana/a.mp3")
    disk = bench.settings.disk.model_copy(update={"min_free_bytes": 1 << 60})
    bench.settings = bench.settings.model_copy(update={"disk": disk})
    with pytest.raises(DiskFull):
        take(bench, path, "copy")
    assert bench.jobs() == []
    assert path.exists()
    assert take(bench, path, "move").state is JobState.QUEUED  # a rename needs no room


def test_a_disk_that_filled_up_meanwhile_leaves_the_claim_for_later(bench: Bench) -> None:
    path = bench.drop("ana/a.mp3")
    job_uuid = received(bench, path, "copy")
    roomy = bench.settings
    disk = roomy.disk.model_copy(update={"min_free_bytes": 1 << 60})
    bench.settings = roomy.model_copy(update={"disk": disk})
    outcome = finish(bench, job_uuid)
    assert outcome.state is JobState.RECEIVED
    assert isinstance(outcome.error, DiskFull)
    assert path.exists()
    bench.settings = roomy
    assert finish(bench, job_uuid).state is JobState.QUEUED


def test_the_same_bytes_again_are_skipped_unless_forced(bench: Bench) -> None:
    assert take(bench, bench.drop("ana/a.mp3")).state is JobState.QUEUED
    again = take(bench, bench.drop("ben/b.mp3"))
    assert again.state is JobState.SKIPPED
    first, second = bench.jobs()
    assert second.error["context"]["job"] == str(first.job_uuid)
    assert bench.archived(second).exists()
    forced = take(bench, bench.drop("ben/c.mp3"), options={"force": True})
    assert forced.state is JobState.QUEUED


def test_a_file_that_was_replaced_before_it_was_taken_goes_back_to_observation(bench: Bench) -> None:
    path = bench.drop("ana/a.mp3")
    job_uuid = received(bench, path, "copy")
    replacement = bench.drop("ana/new.tmp", b"other music")
    replacement.rename(path)
    outcome = finish(bench, job_uuid)
    assert outcome.changed
    assert path.read_bytes() == b"other music"
    (job,) = bench.jobs()
    assert job.state == "cancelled"
    assert not bench.settings.layout.archive_of(job_uuid).exists()
    assert take(bench, path, "copy").state is JobState.QUEUED  # the key is free for the new version


def test_a_file_that_grows_after_the_row_is_not_taken(bench: Bench) -> None:
    path = bench.drop("ana/a.mp3")
    job_uuid = received(bench, path)
    with path.open("ab") as file:
        file.write(b" more")
    assert finish(bench, job_uuid).changed
    assert path.read_bytes() == b"music more"


def test_a_file_that_is_open_for_writing_is_not_taken_yet(bench: Bench) -> None:
    path = bench.drop("ana/a.mp3")
    job_uuid = received(bench, path)
    with path.open("ab"):
        outcome = finish(bench, job_uuid)
        assert outcome.state is JobState.RECEIVED
        assert "open for writing" in str(outcome.error)
        assert path.exists()
    assert finish(bench, job_uuid).state is JobState.QUEUED


def test_a_file_that_somebody_still_writes_in_the_archive_waits_there(bench: Bench) -> None:
    path = bench.drop("ana/a.mp3")
    job_uuid = received(bench, path)
    (job,) = bench.jobs()
    bench.archived(job).parent.mkdir()
    with path.open("ab") as file:
        durable.move(path, bench.archived(job))  # the writer opened it in the moment before the rename
        outcome = finish(bench, job_uuid)
        assert outcome.state is JobState.RECEIVED
        assert "still being written" in str(outcome.error)
        assert not path.exists()
        file.write(b" more")
    assert bench.archived(job).read_bytes() == b"music more"
    bench.until(lambda: finish(bench, job_uuid).state is JobState.QUEUED)  # once it is quiet
    (job,) = bench.jobs()
    assert job.content_hash == blake3(b"music more").hexdigest()


def test_a_file_that_is_gone_is_a_visible_failure(bench: Bench) -> None:
    path = bench.drop("ana/a.mp3")
    job_uuid = received(bench, path)
    path.unlink()
    outcome = finish(bench, job_uuid)
    assert outcome.state is JobState.FAILED
    (job,) = bench.jobs()
    assert (job.state, job.error_code, job.source_key) == ("failed", "E_SOURCE_MISSING", None)
    assert not bench.settings.layout.archive_of(job_uuid).exists()


def test_a_file_in_a_root_that_is_gone_is_not_missing_but_unknown(bench: Bench) -> None:
    path = bench.drop("ana/a.mp3")
    job_uuid = received(bench, path)
    away = bench.input.rename(bench.input.with_name("unmounted"))
    outcome = finish(bench, job_uuid)
    assert outcome.state is JobState.RECEIVED
    assert "cannot be reached" in str(outcome.error)
    away.rename(bench.input)
    assert finish(bench, job_uuid).state is JobState.QUEUED


def test_a_source_that_is_missing_from_the_start_makes_no_job(bench: Bench) -> None:
    path = bench.drop("ana/a.mp3")
    new = bench.new(path)
    path.unlink()
    with pytest.raises(SourceMissing):
        claim.take(bench.database, bench.settings, new)
    assert bench.jobs() == []


def test_a_file_that_a_watcher_took_in_the_same_moment_names_its_job(bench: Bench) -> None:
    new = bench.new(bench.drop("ana/a.mp3"))
    assert claim.take(bench.database, bench.settings, new).state is JobState.QUEUED
    with pytest.raises(AlreadyReceived) as caught:
        claim.take(bench.database, bench.settings, new)
    (job,) = bench.jobs()
    assert caught.value.job_uuid == job.job_uuid


@pytest.mark.usefixtures("bound_by_permissions")
@pytest.mark.parametrize("mode", ["move", "copy", "link"])
def test_an_unreadable_file_is_refused_and_left_where_it_is(bench: Bench, mode: str) -> None:
    path = bench.drop("ana/a.mp3")
    job_uuid = received(bench, path, mode)
    path.chmod(0)
    outcome = finish(bench, job_uuid)
    assert outcome.state is JobState.FAILED
    assert outcome.error is not None
    assert outcome.error.code == "E_SOURCE_UNREADABLE"
    assert path.exists()
    path.chmod(0o600)
    assert take(bench, path, mode).state is JobState.QUEUED


@pytest.mark.usefixtures("bound_by_permissions")
def test_a_file_in_a_folder_that_may_not_be_changed_is_refused(bench: Bench) -> None:
    path = bench.drop("ana/Album/a.mp3")
    path.parent.chmod(0o500)
    try:
        outcome = take(bench, path)
    finally:
        path.parent.chmod(0o700)
    assert outcome.error is not None
    assert outcome.error.code == "E_SOURCE_UNREADABLE"
    assert path.exists()


@pytest.mark.usefixtures("bound_by_permissions")
def test_a_file_that_can_be_copied_but_not_removed_is_refused_and_the_copy_removed(
    bench: Bench, elsewhere: Path
) -> None:
    path = bench.drop("Album/a.mp3", b"far", elsewhere)
    path.parent.chmod(0o500)
    try:
        outcome = take(bench, path)
    finally:
        path.parent.chmod(0o700)
    assert outcome.error is not None
    assert outcome.error.code == "E_SOURCE_UNREADABLE"
    assert path.exists()
    assert not bench.settings.layout.archive_of(outcome.job_uuid).exists()


def test_one_claim_that_cannot_be_finished_does_not_stop_the_others(bench: Bench) -> None:
    blocked = received(bench, bench.drop("ana/1.mp3", b"1"))
    bench.settings.layout.archive_of(blocked).write_bytes(b"a file where a folder must be")
    received(bench, bench.drop("ana/2.mp3", b"2"))
    recovery = claim.recover(bench.database, bench.settings)
    assert [outcome.job_uuid for outcome in recovery.pending] == [blocked]
    assert len(recovery.finished) == 1


def test_a_cancelled_claim_touches_nothing(bench: Bench) -> None:
    path = bench.drop("ana/a.mp3")
    job_uuid = received(bench, path)
    with bench.database.session() as session:
        control.cancel(session, job_uuid, actor="user:ana")
    assert finish(bench, job_uuid).state is JobState.CANCELLED
    assert path.exists()


@pytest.mark.parametrize("how", ["in the middle", "after a crash"])
def test_a_job_that_was_cancelled_while_its_file_was_taken_can_be_retried(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    path = bench.drop("ana/a.mp3")
    job_uuid = received(bench, path)
    (job,) = bench.jobs()

    def cancel() -> None:
        with bench.database.session() as session:
            control.cancel(session, job_uuid, actor="user:ana")

    if how == "in the middle":
        move = durable.move

        def slow(source: Path, target: Path, *, ours: bool) -> None:
            move(source, target, ours=ours)
            cancel()

        monkeypatch.setattr(durable, "move", slow)
        assert finish(bench, job_uuid).state is JobState.CANCELLED
    else:
        durable.make_dirs(bench.archived(job).parent)
        durable.move(path, bench.archived(job))
        cancel()
        claim.recover(bench.database, bench.settings)
    assert (path.exists(), bench.archived(job).read_bytes()) == (False, b"music")
    with bench.database.session() as session:
        again = control.retry(session, job_uuid, actor="user:ana", pools=frozenset({"cpu"}))
    assert again.content_hash == durable.digest(bench.archived(job))


def test_recover_leaves_cancelled_jobs_that_never_got_their_file(bench: Bench) -> None:
    path = bench.drop("ana/a.mp3")
    job_uuid = received(bench, path)
    with bench.database.session() as session:
        control.cancel(session, job_uuid, actor="user:ana")
    recovery = claim.recover(bench.database, bench.settings)
    assert (recovery.finished, recovery.pending) == ((), ())
    assert not bench.settings.layout.archive_of(job_uuid).exists()


def test_finishing_twice_is_finishing_once(bench: Bench) -> None:
    path = bench.drop("ana/a.mp3")
    job_uuid = received(bench, path)
    assert finish(bench, job_uuid).state is JobState.QUEUED
    bench.drop("ana/a.mp3", b"another song")
    assert finish(bench, job_uuid).state is JobState.QUEUED
    assert path.read_bytes() == b"another song"


def test_two_at_once_are_one(bench: Bench) -> None:
    jobs = [received(bench, bench.drop(f"ana/{number}.mp3", bytes([number]) * 50_000)) for number in range(12)]
    start = threading.Barrier(3)
    outcomes: list[claim.Outcome] = []

    def run() -> None:
        start.wait()
        outcomes.extend(finish(bench, job_uuid) for job_uuid in jobs)

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {outcome.state for outcome in outcomes} == {JobState.QUEUED}
    assert len(outcomes) == 36
    with bench.database.session() as session:
        events = session.execute(sa.text("SELECT count(*) FROM job_event WHERE to_state = 'queued'")).scalar()
    assert events == 12


def test_who_does_not_want_to_wait_leaves_a_claim_to_the_process_that_has_it(bench: Bench) -> None:
    import fcntl  # noqa: PLC0415 - this test alone

    path = bench.drop("ana/a.mp3")
    job_uuid = received(bench, path)
    folder = bench.settings.layout.archive_of(job_uuid)
    folder.mkdir()
    fd = os.open(folder, os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_EX)
    try:
        assert finish(bench, job_uuid, wait=False) == claim.Outcome(job_uuid, JobState.RECEIVED)
    finally:
        os.close(fd)
    assert finish(bench, job_uuid, wait=False).state is JobState.QUEUED


def test_recover_finishes_whatever_a_crash_left(bench: Bench) -> None:
    untouched = received(bench, bench.drop("ana/untouched.mp3", b"1"))
    renamed = bench.drop("ana/renamed.mp3", b"2")
    renamed_uuid = received(bench, renamed)
    folder = bench.settings.layout.archive_of(renamed_uuid)
    folder.mkdir()
    durable.move(renamed, folder / "original.mp3")
    gone = bench.drop("ana/gone.mp3", b"3")
    gone_uuid = received(bench, gone)
    gone.unlink()
    changed = bench.drop("ana/changed.mp3", b"4")
    received(bench, changed)
    changed.write_bytes(b"44")

    recovery = claim.recover(bench.database, bench.settings)
    assert recovery.pending == ()
    states = {outcome.job_uuid: outcome.state for outcome in recovery.finished}
    assert states[untouched] is JobState.QUEUED
    assert states[renamed_uuid] is JobState.QUEUED
    assert states[gone_uuid] is JobState.FAILED
    assert sorted(states.values()) == ["cancelled", "failed", "queued", "queued"]
    assert changed.read_bytes() == b"44"
    assert claim.recover(bench.database, bench.settings) == claim.Recovery((), ())
