from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import shutil
import time
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from ironclad.config import WatchRoot
from ironclad.ingest import observations
from ironclad.ingest.feed import EventFeed
from ironclad.ingest.watch import How
from ironclad.jobs import submit

if TYPE_CHECKING:
    from pathlib import Path

    Bench = Any  # conftest's

LONG = 60.0  # a quiet time that no test waits for


def grow(bench: Bench, path: Path, times: int, begun: float) -> None:
    """Append 100 bytes again and again; the file must not be taken meanwhile, unless we ourselves let it lie.

    `begun` is before the file was written or first seen.
    """
    quiet = bench.settings.ingest.stability_seconds
    for _ in range(times):
        time.sleep(0.18)
        taken = bench.jobs()
        now = time.monotonic()
        with path.open("ab") as file:
            file.write(b"x" * 100)
        if time.monotonic() - begun > 0.7 * quiet:  # from before one change until after the next
            pytest.skip("the machine is too busy for a file that grows steadily")
        assert taken == []
        begun = now


def names(bench: Bench, *states: str) -> list[str]:
    return sorted(job.relative_path for job in bench.jobs(*states))


def test_a_file_becomes_a_job_of_its_user_with_its_album(bench: Bench) -> None:
    bench.watch()
    path = bench.drop("ana/Album/01.flac", b"1")
    bench.drop("loose.mp3", b"2")
    bench.until_jobs(2)
    jobs = {job.user_id: job for job in bench.jobs()}
    assert jobs["ana"].relative_path == "Album/01.flac"
    assert jobs["ana"].watch_root == str(bench.input)
    assert jobs["ana"].source_path == str(path)
    assert jobs["default"].relative_path == "loose.mp3"
    assert not path.exists()
    assert bench.archived(jobs["ana"]).read_bytes() == b"1"
    with bench.database.session() as session:
        known = observations.of_file(session, str(bench.input), "ana/Album/01.flac")
    assert known is not None
    assert (known.status, known.job_uuid) == ("claimed", jobs["ana"].job_uuid)


def test_a_file_that_was_there_at_the_start_waits_for_its_quiet_time(bench: Bench) -> None:
    path = bench.drop("ana/1.mp3", b"first half ")
    os.utime(path, (1, 1))  # it looks old, as after `cp -p`
    bench.configure(stability_seconds=1.0)
    begun = time.monotonic()
    bench.watch()
    grow(bench, path, 8, begun)
    (job,) = bench.until_jobs(1)
    assert bench.archived(job).read_bytes() == b"first half " + b"x" * 800


def test_an_observation_of_an_earlier_run_does_not_shorten_the_wait(bench: Bench) -> None:
    bench.configure(stability_seconds=LONG)
    first = bench.watch()
    path = bench.drop("ana/1.mp3")
    bench.until(lambda: _known(bench, "ana/1.mp3"))
    first.stop()
    with bench.database.session() as session:
        session.execute(sa.text("UPDATE observation SET changed_at = changed_at - interval '1 day'"))
    bench.watch()
    time.sleep(0.5)
    assert bench.jobs() == []
    assert path.exists()


def _known(bench: Bench, path: str, status: str | None = None) -> observations.Known | None:
    with bench.database.session() as session:
        known = observations.of_file(session, str(bench.input), path)
    return known if known is not None and status in {None, known.status} else None


@pytest.mark.parametrize("temporary", ["elsewhere", "ana/1.mp3.part", ".1.mp3.Ab12Cd"])
def test_a_rename_into_place_is_taken_at_once(bench: Bench, tmp_path: Path, temporary: str) -> None:
    bench.configure(stability_seconds=LONG)
    (bench.input / "ana").mkdir()
    bench.watch()
    path = tmp_path / "x" if temporary == "elsewhere" else bench.input / temporary
    path.write_bytes(b"music")
    path.rename(bench.input / "ana" / "1.mp3")
    bench.until_jobs(1)


def test_a_renamed_file_that_is_still_growing_is_not_taken_at_once(bench: Bench) -> None:
    bench.configure(stability_seconds=LONG)
    (bench.input / "ana").mkdir()
    first = bench.watch()
    path = bench.drop("ana/unknown.mp3", b"1")
    bench.until(lambda: _known(bench, "ana/unknown.mp3"))
    with bench.database.session() as session:
        begun = session.scalar(sa.text("SELECT ironclad_now()"))
    with path.open("ab") as file:
        file.write(b"2")
    path.rename(bench.input / "ana" / "title.mp3")
    known = bench.until(lambda: _known(bench, "ana/title.mp3"))
    assert known.status == "growing"
    assert known.changed_at >= begun  # its whole wait is from then
    bench.until(lambda: _known(bench, "ana/unknown.mp3", "gone"))
    assert bench.jobs() == []
    first.stop()
    bench.configure(stability_seconds=0.4)
    bench.watch()
    (job,) = bench.until_jobs(1)
    assert job.relative_path == "title.mp3"
    assert bench.archived(job).read_bytes() == b"12"


def test_a_hard_link_into_place_is_seen(bench: Bench) -> None:
    bench.watch()
    path = bench.drop("ana/1.mp3.filepart")
    path.with_name("1.mp3").hardlink_to(path)
    path.unlink()
    bench.until_jobs(1)


def test_folders_that_come_with_their_files(bench: Bench, tmp_path: Path) -> None:
    bench.watch()
    album = tmp_path / "Album"
    for number in range(5):
        bench.drop(f"Album/CD {number}/1.mp3", bytes([number]), tmp_path)
    album.rename(bench.input / "Album")
    for number in range(10):  # made so fast that nobody listens in them yet
        bench.drop(f"ben/{number}/a/b/c/d/e.mp3", bytes([number, 1]))
    bench.until_jobs(15)
    assert names(bench) == sorted(
        [f"CD {n}/1.mp3" for n in range(5)] + [f"{n}/a/b/c/d/e.mp3" for n in range(10)],
    )


def test_a_folder_that_is_renamed_while_its_files_wait(bench: Bench) -> None:
    bench.configure(stability_seconds=1.0)
    bench.watch()
    with bench.writing("ana/Albun/1.mp3"):
        bench.until(lambda: _known(bench, "ana/Albun/1.mp3"))
        (bench.input / "ana" / "Albun").rename(bench.input / "ana" / "Album")
    bench.until_jobs(1)
    time.sleep(0.3)
    assert names(bench) == ["Album/1.mp3"]
    bench.until(lambda: _known(bench, "ana/Albun/1.mp3", "gone"))


def test_what_is_ignored_stays(bench: Bench) -> None:
    bench.configure(ignore=("*demo*",))
    bench.watch()
    ignored = ["ana/1.mp3.part", "ana/.2.mp3", "ana/cover.jpg", "ana/@eaDir/3.mp3", "ana/demo.mp3", "ana/.st/4.mp3"]
    for name in ignored:
        bench.drop(name, name.encode())
    bench.drop("ana/real.mp3")
    bench.until_jobs(1)
    time.sleep(0.8)
    assert names(bench) == ["real.mp3"]
    assert all((bench.input / name).exists() for name in ignored)


def test_a_file_that_a_program_has_open_is_not_taken_however_quiet_it_is(bench: Bench) -> None:
    bench.watch()
    (bench.input / "ana").mkdir()
    path = bench.input / "ana" / "1.mp3"
    with path.open("wb") as file:
        file.write(b"half ")
        file.flush()
        known = bench.until(lambda: k if (k := _known(bench, "ana/1.mp3")) and k.reason else None)
        assert "open for writing" in known.reason
        assert bench.jobs() == []
        file.write(b"whole")
    (job,) = bench.until_jobs(1)
    assert bench.archived(job).read_bytes() == b"half whole"


def test_the_placeholder_of_a_browser_is_not_taken(bench: Bench) -> None:
    bench.watch()
    part = bench.drop("ana/1.mp3.part", b"download")
    path = bench.drop("ana/1.mp3", b"")
    bench.until(lambda: k if (k := _known(bench, "ana/1.mp3")) and k.reason else None)
    assert bench.jobs() == []
    part.rename(path)
    (job,) = bench.until_jobs(1)
    assert bench.archived(job).read_bytes() == b"download"


def test_an_empty_file_alone_is_taken_for_the_pipeline_to_refuse(bench: Bench) -> None:
    bench.watch()
    bench.drop("ana/1.mp3", b"")
    (job,) = bench.until_jobs(1)
    assert job.source_size == 0


def test_a_link_out_of_the_root_fails_visibly_once(bench: Bench, tmp_path: Path) -> None:
    bench.configure(rescan_seconds=0.3)
    secret = tmp_path / "secret.mp3"
    secret.write_bytes(b"x")
    first = bench.watch()
    (bench.input / "ana").mkdir()
    (bench.input / "ana" / "link.mp3").symlink_to(secret)
    (job,) = bench.until_jobs(1)
    assert (job.state, job.error_code) == ("failed", "E_UNSAFE_PATH")
    assert secret.exists()
    assert (bench.input / "ana" / "link.mp3").is_symlink()
    time.sleep(0.7)
    first.stop()
    bench.watch()
    time.sleep(0.7)
    assert len(bench.jobs()) == 1


@pytest.mark.usefixtures("bound_by_permissions")
def test_an_unreadable_file_fails_visibly_and_is_taken_once_it_can_be_read(bench: Bench) -> None:
    bench.configure(rescan_seconds=0.5)
    path = bench.drop("ana/1.mp3")
    path.chmod(0)
    bench.watch()
    (job,) = bench.until_jobs(1)
    assert (job.state, job.error_code) == ("failed", "E_SOURCE_UNREADABLE")
    assert path.exists()
    time.sleep(0.8)
    assert len(bench.jobs()) == 1
    path.chmod(0o600)
    bench.until_jobs(1, "queued")


def test_in_copy_mode_a_file_is_taken_once_for_ever(bench: Bench) -> None:
    bench.configure(WatchRoot(path=bench.input, mode="copy"), rescan_seconds=0.3)
    first = bench.watch()
    path = bench.drop("ana/1.mp3", b"1")
    bench.until_jobs(1)
    path.rename(path.with_name("2.mp3"))
    time.sleep(0.8)
    first.stop()
    bench.watch()
    time.sleep(0.8)
    assert len(bench.jobs()) == 1
    path.with_name("2.mp3").write_bytes(b"another version")
    bench.until_jobs(2)


def test_a_disk_that_does_not_say_how_full_it_is_is_asked_again(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of the last look at a file is no answer: neither it nor those beside it may be forgotten."""
    bench.configure(WatchRoot(path=bench.input, mode="copy"))
    usage, errors = shutil.disk_usage, iter([OSError(errno.EIO, "the disk is away")])

    def sometimes(path: Path) -> Any:
        if (error := next(errors, None)) is not None:
            raise error
        return usage(path)

    monkeypatch.setattr("ironclad.ingest.examine.STORAGE_SECONDS", 0.1)
    monkeypatch.setattr(shutil, "disk_usage", sometimes)
    files = [bench.drop(f"ana/{number}.mp3", bytes([number])) for number in range(3)]
    bench.watch()
    assert len(bench.until_jobs(3, "queued")) == 3
    assert next(errors, None) is None
    assert all(file.exists() for file in files)


def test_roots_of_several_kinds_side_by_side(bench: Bench, tmp_path: Path) -> None:
    polled, copied, missing = tmp_path / "polled", tmp_path / "copied", tmp_path / "missing"
    polled.mkdir()
    copied.mkdir()
    bench.configure(
        WatchRoot(path=bench.input, watch="events"), WatchRoot(path=polled, watch="polling", user="nas"),
        WatchRoot(path=copied, mode="copy"), WatchRoot(path=missing),
    )  # fmt: skip
    watching = bench.watch()
    for number, root in enumerate((bench.input, polled, copied)):
        bench.drop("ana/1.mp3", bytes([number]), root)
    bench.until_jobs(3)
    assert {job.user_id: job.relative_path for job in bench.jobs()} == {"ana": "1.mp3", "nas": "ana/1.mp3"}
    assert [status.how for status in watching.watcher.status()] == [
        How.EVENTS, How.POLLING, How.EVENTS, How.UNKNOWN,
    ]  # fmt: skip
    bench.drop("ana/2.mp3", b"late", missing)  # the mount has come
    bench.until_jobs(4)
    assert watching.watcher.status()[3].how is How.EVENTS


def test_a_polled_file_that_grows_is_not_taken_early(bench: Bench) -> None:
    bench.configure(WatchRoot(path=bench.input, watch="polling"), stability_seconds=0.8)
    bench.watch()
    begun = time.monotonic()
    path = bench.drop("ana/1.mp3", b"")
    grow(bench, path, 10, begun)
    (job,) = bench.until_jobs(1)
    assert job.source_size == 1000


def test_a_vanished_root_is_unknown_and_goes_on_by_itself(bench: Bench) -> None:
    bench.configure(stability_seconds=1.0, rescan_seconds=0.4)
    watching = bench.watch()
    with bench.writing("ana/1.mp3"):
        bench.until(lambda: _known(bench, "ana/1.mp3"))
        away = bench.input.rename(bench.input.with_name("away"))
        bench.until(lambda: watching.watcher.status()[0].how is How.UNKNOWN)
    time.sleep(1.2)
    assert bench.jobs() == []
    known = _known(bench, "ana/1.mp3")
    assert known is not None
    assert known.status == "growing"  # not "gone": nobody knows
    away.rename(bench.input)
    bench.until_jobs(1)
    bench.until(lambda: watching.watcher.status()[0].how is How.EVENTS)
    bench.drop("ana/2.mp3", b"2")
    bench.until_jobs(2)


def test_events_that_were_lost_are_made_up_for(bench: Bench) -> None:
    watching = bench.watch()
    _deafen(watching)
    bench.drop("ana/1.mp3")
    time.sleep(0.8)
    assert bench.jobs() == []
    logging.getLogger("watchdog.observers.inotify_c").warning("Inotify queue overflowed; filesystem events were lost")
    bench.until_jobs(1)
    (status,) = watching.watcher.status()
    assert status.lost == 1
    assert status.how is How.EVENTS
    bench.until(lambda: _root_state(bench).get("lost") == 1)


def test_a_file_that_came_without_an_event_makes_the_root_polled(bench: Bench, tmp_path: Path) -> None:
    bench.configure(rescan_seconds=1.5)
    file = bench.drop("ana/1.mp3", b"1", tmp_path / "elsewhere")
    bench.until(lambda: time.time_ns() - file.stat().st_ctime_ns > 10**9)  # no event of it can be on its way still
    watching = bench.watch()
    _deafen(watching)
    file.parent.rename(bench.input / "ana")  # which leaves the file's own time as it is
    bench.until_jobs(1)
    (status,) = watching.watcher.status()
    assert status.how is How.POLLING
    assert "without an event" in status.reason
    bench.drop("ana/2.mp3", b"2")
    bench.until_jobs(2)
    bench.until(lambda: _root_state(bench).get("how") == "polling")


def _deafen(watching: Any) -> None:
    """Stop the events of the only root, as a file server does that never sends any."""
    feed = watching.watcher._roots[0]._view._feed
    feed._observer.unschedule_all()


def _root_state(bench: Bench) -> dict[str, Any]:
    with bench.database.session() as session:
        return observations.root_state(session, str(bench.input))


def test_when_the_kernel_watches_too_few_folders_the_root_is_polled(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(EventFeed, "watched_folders", lambda _self: 1)
    bench.drop("ana/Album/1.mp3", b"1")
    watching = bench.watch()
    bench.until(lambda: watching.watcher.status()[0].how is How.POLLING)
    assert "max_user_watches" in watching.watcher.status()[0].reason
    bench.until_jobs(1)


def test_without_inotify_the_root_is_polled(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_self: EventFeed) -> None:
        raise OSError(24, "inotify instance limit reached")

    monkeypatch.setattr(EventFeed, "start", refuse)
    watching = bench.watch()
    assert watching.watcher.status()[0].how is How.POLLING
    assert "max_user_instances" in watching.watcher.status()[0].reason
    bench.drop("ana/1.mp3")
    bench.until_jobs(1)


def test_a_database_that_is_away_for_a_while_costs_nothing(bench: Bench, server_url: str) -> None:
    watching = bench.watch()
    bench.until(lambda: _root_state(bench).get("how") == "events")
    name = bench.database.url.database
    admin = sa.create_engine(
        sa.make_url(server_url).set(drivername="postgresql+psycopg"),
        isolation_level="AUTOCOMMIT",
        poolclass=sa.NullPool,
    )
    with admin.connect() as connection:
        connection.execute(sa.text(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false'))
        end = "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity WHERE datname = :name"
        bench.until(lambda: connection.scalar(sa.text(end), {"name": name}) == 0)  # one may have come just before
        paths = [bench.drop(f"ana/{number}.mp3", bytes([number])) for number in range(5)]
        time.sleep(1.5)
        assert all(path.exists() for path in paths)
        connection.execute(sa.text(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true'))
    bench.until_jobs(5)
    assert len(bench.jobs()) == 5
    assert watching.thread.is_alive()


def test_a_claim_of_an_earlier_run_is_finished_at_the_start(bench: Bench) -> None:
    path = bench.drop("ana/1.mp3")
    with bench.database.session() as session:
        submit.receive(session, bench.new(path), bench.settings)
    bench.configure(stability_seconds=LONG)
    bench.watch()
    bench.until_jobs(1, "queued")


def test_a_claim_that_another_process_holds_is_finished_when_that_one_dies(bench: Bench) -> None:
    path = bench.drop("ana/1.mp3")
    with bench.database.session() as session:
        job_uuid = submit.receive(session, bench.new(path), bench.settings).job_uuid
    folder = bench.settings.layout.archive_of(job_uuid)
    folder.mkdir()
    fd = os.open(folder, os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_EX)
    try:
        bench.watch()
        time.sleep(0.8)
        assert len(bench.jobs("received")) == 1
    finally:
        os.close(fd)
    bench.until_jobs(1, "queued")
    assert len(bench.jobs()) == 1


def test_two_watchers_take_each_file_once(bench: Bench) -> None:
    bench.watch()
    bench.watch()
    for number in range(30):
        bench.drop(f"ana/{number}.mp3", bytes([number]))
    bench.until_jobs(30, "queued")
    time.sleep(0.5)
    assert len(bench.jobs()) == 30


def test_a_duplicate_is_skipped_and_listed(bench: Bench) -> None:
    bench.watch()
    bench.drop("ana/1.mp3", b"same")
    (first,) = bench.until_jobs(1)
    bench.drop("ben/2.mp3", b"same")
    bench.until_jobs(1, "skipped")

    def listed() -> list[dict[str, Any]]:
        path = bench.settings.layout.skipped
        found: list[dict[str, Any]] = json.loads(path.read_text())["skipped"] if path.exists() else []
        return found

    (entry,) = bench.until(listed)
    assert (entry["code"], entry["user_id"], entry["duplicate_of"]) == ("E_DUPLICATE", "ben", str(first.job_uuid))


def test_a_file_deleted_before_it_was_complete_is_gone(bench: Bench) -> None:
    bench.configure(stability_seconds=LONG)
    bench.watch()
    path = bench.drop("ana/1.mp3")
    bench.until(lambda: _known(bench, "ana/1.mp3", "growing"))
    path.unlink()
    bench.until(lambda: _known(bench, "ana/1.mp3", "gone"))
    assert bench.jobs() == []


def test_a_file_deleted_while_nobody_watched_is_gone(bench: Bench) -> None:
    bench.configure(stability_seconds=LONG)
    first = bench.watch()
    path = bench.drop("ana/1.mp3")
    bench.until(lambda: _known(bench, "ana/1.mp3", "growing"))
    first.stop()
    path.unlink()
    bench.watch()
    bench.until(lambda: _known(bench, "ana/1.mp3", "gone"))


def test_names_that_no_terminal_shows(bench: Bench) -> None:
    bench.watch()
    wild = ["new\nline.mp3", "✨.flac", "x" * 240 + ".mp3", "\udcff\udcfe.ogg", "%s'\"$(x).mp3"]
    for number, name in enumerate(wild):
        bench.drop(f"ana/{name}", bytes([number]))
    bench.until_jobs(len(wild))
    assert {job.state for job in bench.jobs()} == {"queued"}
    assert "new\\nline.mp3" in names(bench)


def test_a_path_of_many_folders(bench: Bench) -> None:
    bench.watch()
    bench.drop("ana/" + "/".join(["y" * 100] * 5) + "/1.mp3")
    bench.until_jobs(1)
