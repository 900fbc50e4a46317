from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from ironclad import durable
from ironclad.errors import DiskFull, LeaseLost, OutputInvalid, SourceUnreadable
from ironclad.stages.publish import publisher

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from sqlmodel import Session

    from ironclad.config import Settings
    from ironclad.db.session import Database
    from ironclad.jobs import lease
    from ironclad.stages.context import Publisher

    Claims = Callable[..., lease.Claim]


@pytest.fixture
def publish(database: Database) -> Callable[[lease.Claim], Publisher]:
    def write(call: Callable[[Session], Any]) -> Any:
        with database.session() as session:
            return call(session)

    return lambda claim: publisher(write, claim.fence)


def name(folder: Path) -> Callable[[int], Path]:
    return lambda number: folder / "Artist" / (f"Song ({number}).flac" if number > 1 else "Song.flac")


def rows(database: Database) -> list[tuple[str, str]]:
    with database.session() as session:
        found = session.execute(sa.text("SELECT state, path FROM artifact ORDER BY created_at, artifact_uuid")).all()
    return [(row.state, row.path) for row in found]


@pytest.fixture
def song(tmp_path: Path) -> Path:
    path = tmp_path / "made.flac"
    path.write_bytes(b"flac" * 1000)
    return path


def test_a_file_is_published_and_recorded(
    database: Database, settings: Settings, claims: Claims, publish: Callable[[lease.Claim], Publisher], song: Path
) -> None:
    done = publish(claims()).put("instrumental", song, name(settings.layout.output), {"gain": 1})
    assert done.path.read_bytes() == song.read_bytes()
    assert done.blake3 == durable.digest(song)
    assert rows(database) == [("published", str(done.path))]
    assert [p.name for p in done.path.parent.iterdir()] == ["Song.flac"]


def test_publishing_again_changes_nothing(
    database: Database, settings: Settings, claims: Claims, publish: Callable[[lease.Claim], Publisher], song: Path
) -> None:
    claim = claims()
    first = publish(claim).put("instrumental", song, name(settings.layout.output), None)
    inode = first.path.stat().st_ino
    again = publish(claim).put("instrumental", song, name(settings.layout.output), None)
    assert again.path == first.path
    assert again.path.stat().st_ino == inode
    assert [state for state, _path in rows(database)] == ["superseded", "published"]


def test_the_same_jobs_better_result_replaces_its_own_file(
    database: Database, settings: Settings, claims: Claims, publish: Callable[[lease.Claim], Publisher], song: Path
) -> None:
    claim = claims()
    first = publish(claim).put("instrumental", song, name(settings.layout.output), None)
    song.write_bytes(b"better")
    again = publish(claim).put("instrumental", song, name(settings.layout.output), None)
    assert again.path == first.path
    assert again.path.read_bytes() == b"better"


def test_two_jobs_with_one_name_get_two_files(
    database: Database, settings: Settings, claims: Claims, publish: Callable[[lease.Claim], Publisher], song: Path
) -> None:
    first = publish(claims()).put("instrumental", song, name(settings.layout.output), None)
    second = publish(claims()).put("instrumental", song, name(settings.layout.output), None)
    assert (first.path.name, second.path.name) == ("Song.flac", "Song (2).flac")


def test_letter_case_does_not_make_a_name(
    settings: Settings, claims: Claims, publish: Callable[[lease.Claim], Publisher], song: Path
) -> None:
    publish(claims()).put("instrumental", song, lambda _n: settings.layout.output / "SONG.flac", None)
    taken = lambda n: settings.layout.output / ("song.flac" if n == 1 else "song (2).flac")  # noqa: E731 - as short as it gets
    assert publish(claims()).put("instrumental", song, taken, None).path.name == "song (2).flac"


def test_a_file_of_somebody_else_is_never_overwritten(
    settings: Settings, claims: Claims, publish: Callable[[lease.Claim], Publisher], song: Path
) -> None:
    foreign = settings.layout.output / "Artist" / "Song.flac"
    durable.make_dirs(foreign.parent)
    foreign.write_bytes(b"bought")
    done = publish(claims()).put("instrumental", song, name(settings.layout.output), None)
    assert done.path.name == "Song (2).flac"
    assert foreign.read_bytes() == b"bought"


def test_a_strangers_file_under_a_name_that_the_job_once_had_is_not_overwritten(
    settings: Settings, claims: Claims, publish: Callable[[lease.Claim], Publisher], song: Path
) -> None:
    claim = claims()
    old = publish(claim).put("instrumental", song, name(settings.layout.output), None)
    publish(claim).put("instrumental", song, name(settings.layout.output / "Elsewhere"), None)
    old.path.write_bytes(b"bought since")  # the older result was removed, and somebody put his own file there
    song.write_bytes(b"better")
    done = publish(claim).put("instrumental", song, name(settings.layout.output), None)
    assert old.path.read_bytes() == b"bought since"
    assert (done.path.name, done.path.read_bytes()) == ("Song (2).flac", b"better")


def test_a_strangers_file_that_came_where_an_attempt_was_cut_short_is_not_overwritten(
    database: Database, settings: Settings, claims: Claims, publish: Callable[[lease.Claim], Publisher], song: Path
) -> None:
    claim = claims()
    done = publish(claim).put("instrumental", song, name(settings.layout.output), None)
    with database.session() as session:
        session.execute(sa.text("UPDATE artifact SET state = 'intent'"))  # killed before the file was there
    done.path.write_bytes(b"bought since")
    again = publish(claim).put("instrumental", song, name(settings.layout.output), None)
    assert done.path.read_bytes() == b"bought since"
    assert again.path.name == "Song (2).flac"


def test_a_strangers_file_that_comes_in_this_very_moment_is_not_overwritten(
    database: Database, settings: Settings, claims: Claims, song: Path
) -> None:
    came = settings.layout.output / "Artist" / "Song.flac"

    def write(call: Callable[[Session], Any]) -> Any:
        with database.session() as session:
            return call(session)

    def check() -> None:
        if not came.exists():
            came.write_bytes(b"bought")

    done = publisher(write, claims().fence, check).put("instrumental", song, name(settings.layout.output), None)
    assert came.read_bytes() == b"bought"
    assert done.path.name == "Song (2).flac"
    assert rows(database) == [("superseded", str(came)), ("published", str(done.path))]


def test_two_files_of_a_job_that_want_one_name_get_two(
    database: Database, settings: Settings, claims: Claims, publish: Callable[[lease.Claim], Publisher], song: Path
) -> None:
    publisher = publish(claims())
    for _ in range(2):  # run twice, as after a crash
        first = publisher.put("instrumental", song, name(settings.layout.output), None)
        song.write_bytes(b"voice")
        second = publisher.put("vocals", song, name(settings.layout.output), None)
        song.write_bytes(b"flac" * 1000)
        assert (first.path.name, second.path.name) == ("Song.flac", "Song (2).flac")
        assert (first.path.read_bytes(), second.path.read_bytes()) == (b"flac" * 1000, b"voice")
    assert [state for state, _path in rows(database)].count("published") == 2


@pytest.mark.parametrize("thing", ["folder", "link to nowhere", "shut"])
def test_what_is_no_file_to_be_read_is_left_alone(  # noqa: PLR0917 - fixtures
    settings: Settings, claims: Claims, publish: Callable[[lease.Claim], Publisher], song: Path, thing: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    there = settings.layout.output / "Artist" / "Song.flac"
    durable.make_dirs(there.parent)
    if thing == "folder":
        there.mkdir()
    elif thing == "shut":
        there.write_bytes(b"of another user")
        digest = durable.digest

        def closed(path: Path) -> str:
            if path == there:
                raise SourceUnreadable(str(path))
            return digest(path)

        monkeypatch.setattr(durable, "digest", closed)
    else:
        there.symlink_to("nowhere")
    assert publish(claims()).put("instrumental", song, name(settings.layout.output), None).path.name == "Song (2).flac"
    assert there.is_dir() or there.is_symlink() or there.read_bytes() == b"of another user"


def test_a_file_that_goes_while_it_is_looked_at_was_none(
    settings: Settings, claims: Claims, publish: Callable[[lease.Claim], Publisher], song: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    claim = claims()
    done = publish(claim).put("instrumental", song, name(settings.layout.output), None)
    digest = durable.digest

    def late(path: Path) -> str:
        if path == done.path:
            monkeypatch.setattr(durable, "digest", digest)
            path.unlink()  # a user tidies up
        return digest(path)

    monkeypatch.setattr(durable, "digest", late)
    again = publish(claim).put("instrumental", song, name(settings.layout.output), None)
    assert (again.path, again.path.read_bytes()) == (done.path, song.read_bytes())


def test_a_full_disk_leaves_no_part_of_a_file(
    settings: Settings, claims: Claims, publish: Callable[[lease.Claim], Publisher], song: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    copy = durable.copy_to_temporary

    def full(source: Path, temporary: Path, expected: str) -> None:
        copy(source, temporary, expected)
        raise DiskFull(str(temporary))

    monkeypatch.setattr(durable, "copy_to_temporary", full)
    with pytest.raises(DiskFull):
        publish(claims()).put("instrumental", song, name(settings.layout.output), None)
    assert [path for path in settings.layout.output.rglob("*") if path.is_file()] == []


def test_what_a_crash_left_before_the_commit_is_adopted(
    database: Database, settings: Settings, claims: Claims, publish: Callable[[lease.Claim], Publisher], song: Path
) -> None:
    claim = claims()
    done = publish(claim).put("instrumental", song, name(settings.layout.output), None)
    with database.session() as session:
        session.execute(sa.text("UPDATE artifact SET state = 'intent'"))  # killed between rename and commit
    durable.write_atomic(done.path.with_name(f".{claim.fence.job_uuid.hex}.1.part"), b"half")
    again = publish(claim).put("instrumental", song, name(settings.layout.output), None)
    assert again.path == done.path
    assert rows(database)[-1] == ("published", str(done.path))


def test_a_zombie_publishes_nothing(
    database: Database, settings: Settings, claims: Claims, publish: Callable[[lease.Claim], Publisher], song: Path
) -> None:
    claim = claims()
    with database.session() as session:
        session.execute(sa.text("UPDATE job SET lease_token = gen_random_uuid()"))
    with pytest.raises(LeaseLost):
        publish(claim).put("instrumental", song, name(settings.layout.output), None)
    assert rows(database) == []
    assert [path for path in settings.layout.output.rglob("*") if path.is_file()] == []


def test_a_zombie_that_was_stopped_while_it_copied_puts_nothing_in_place_of_newer_bytes(  # noqa: PLR0917 - fixtures
    database: Database, settings: Settings, claims: Claims, publish: Callable[[lease.Claim], Publisher], song: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    claim = claims()
    done = publish(claim).put("instrumental", song, name(settings.layout.output), None)
    song.write_bytes(b"older")
    copy = durable.copy_to_temporary

    def slow(source: Path, temporary: Path, expected: str) -> None:
        copy(source, temporary, expected)  # the virtual machine is paused here, its clocks with it
        with database.session() as session:
            session.execute(sa.text("UPDATE job SET lease_token = gen_random_uuid()"))
        done.path.write_bytes(b"newer")

    monkeypatch.setattr(durable, "copy_to_temporary", slow)
    with pytest.raises(LeaseLost):
        publish(claim).put("instrumental", song, name(settings.layout.output), None)
    assert done.path.read_bytes() == b"newer"


def test_names_run_out_with_an_error(
    settings: Settings, claims: Claims, publish: Callable[[lease.Claim], Publisher], song: Path
) -> None:
    durable.write_atomic(settings.layout.output / "x.flac", b"taken")
    with pytest.raises(OutputInvalid, match="No free name"):
        publish(claims()).put("instrumental", song, lambda _n: settings.layout.output / "x.flac", None)


def test_a_replay_may_keep_what_was_published_before(
    database: Database, settings: Settings, claims: Claims, publish: Callable[[lease.Claim], Publisher], tmp_path: Path
) -> None:
    claim = claims()
    first, second = tmp_path / "one.flac", tmp_path / "two.flac"
    first.write_bytes(b"one")
    second.write_bytes(b"two")
    old = publish(claim).put("instrumental", first, name(settings.layout.output), None)
    with database.session() as session:  # the attempt goes on as number 2, as after a replay
        session.execute(sa.text("UPDATE artifact SET attempt = 0"))

    def write(call: Callable[[Session], Any]) -> Any:
        with database.session() as session:
            return call(session)

    for _ in range(2):  # run twice, as after a crash: the same place
        new = publisher(write, claim.fence, since=1).put("instrumental", second, name(settings.layout.output), None)
        assert new.path.name == "Song (2).flac"
    assert (old.path.read_bytes(), new.path.read_bytes()) == (b"one", b"two")
    assert {row for row in rows(database) if row[0] == "published"} == {
        ("published", str(old.path)), ("published", str(new.path)),
    }  # fmt: skip
