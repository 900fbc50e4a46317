"""Retagging published files: what is written, what is refused, and what a crash leaves."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import mutagen
import pytest
import sqlalchemy as sa
from stage_contexts import claimed, published_job

from ironclad import durable
from ironclad.audio.decode import decode
from ironclad.audio.info import AudioLimits
from ironclad.config import Settings
from ironclad.errors import BadRequest, FileChanged, IllegalTransition
from ironclad.jobs import control, lease
from ironclad.library.receipt import Receipt
from ironclad.metadata.model import Picture, PictureType, TrackTags
from ironclad.metadata.shared import Outage
from ironclad.ops.library import known
from ironclad.ops.library.retag import Retagger
from ironclad.stages import online

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from ironclad.db.session import Database

UNKNOWN = TrackTags(title="Song", artists=("Ann",))
POOLS = frozenset({"cpu"})


@pytest.fixture
def mine(settings: Settings, service: Any) -> Settings:
    """Settings that ask the test's service."""
    asking = {"enabled": True, "url": service.url, "interval_seconds": 0, "attempts": 1, "timeout_seconds": 60}
    covers = {"enabled": True, "url": service.url}
    return Settings.model_validate({**settings.model_dump(), "metadata": {"musicbrainz": asking, "cover_art": covers}})


@pytest.fixture
def publish(database: Database, mine: Settings, audio: Callable[..., Path], tmp_path: Path) -> Callable[..., UUID]:
    """`publish(tags, kind="flac", pictures=…)`: a job that has succeeded, its file in the library."""
    numbers = iter(range(100))

    def go(tags: TrackTags = UNKNOWN, kind: str = "flac", *pictures: Picture, **more: Any) -> UUID:
        number = next(numbers)
        claim = claimed(database, mine, tmp_path / "in" / f"{number}.flac")
        return published_job(database, mine, claim, tmp_path / f"job-{number}", tags, audio(kind), pictures, **more)

    return go


@pytest.fixture
def retagger(database: Database, mine: Settings) -> Retagger:
    return Retagger(database, mine, "test")


def file_of(database: Database, job: UUID) -> Path:
    with database.session() as session:
        [one] = known.files(session, job)
    return one.path


def artifacts(database: Database, job: UUID) -> dict[str, tuple[str, int, str]]:
    with database.session() as session:
        rows = session.execute(
            sa.text("SELECT kind, path, size, blake3 FROM artifact WHERE job_uuid = :job AND state = 'published'"),
            {"job": job},
        )
        return {row.kind: (row.path, row.size, row.blake3) for row in rows}


def consistent(database: Database, job: UUID) -> None:
    """Rows, files and the receipt beside the file say the same."""
    for path, size, blake3 in artifacts(database, job).values():
        assert (Path(path).stat().st_size, durable.digest(Path(path))) == (size, blake3), path
    path = file_of(database, job)
    receipt = Receipt.from_bytes(path.with_name(path.name + ".receipt.json").read_bytes())
    assert receipt.blake3 == durable.digest(path)
    assert "intended_blake3" not in receipt.more
    assert not list(path.parent.glob(".*"))


def test_after_an_outage_tags_and_cover_are_completed(  # noqa: PLR0917 - fixtures
    database: Database, mine: Settings, service: Any, publish: Callable[..., UUID], retagger: Retagger, jpeg: bytes
) -> None:
    service.faults.extend(["503"])
    job = publish()
    path = file_of(database, job)
    before = decode(path, None, AudioLimits()).blake3
    assert "album" not in mutagen.File(path) or mutagen.File(path)["album"] == ["Instrumentals"]
    with database.session() as session:
        assert known.pending(session) == [job]
    service.cover = jpeg
    done = retagger.retag(job)  # patient: it asks although nobody answered lately
    assert done.lookup is not None
    assert (done.lookup.status, done.cover, done.pending) == ("matched", "found", False)
    assert [one.changed for one in done.files] == [True]
    tags = mutagen.File(path)
    assert tags["album"] == ["Album (Instrumentals)"]
    assert tags["tracknumber"] == ["3"]
    assert tags["replaygain_track_gain"] == ["-4.00 dB"]  # measured on the file, kept
    assert tags["ironclad_source_musicbrainz_albumid"] == ["r1"]
    assert "musicbrainz_albumid" not in tags
    assert tags.pictures[0].data == jpeg
    assert (path.parent / "cover.jpg").read_bytes() == jpeg
    assert decode(path, None, AudioLimits()).blake3 == before
    consistent(database, job)
    with database.session() as session:
        assert known.pending(session) == []
        assert session.scalar(sa.text("SELECT album FROM job")) == "Album"
        kinds = session.scalars(sa.text("SELECT kind FROM job_event ORDER BY id DESC LIMIT 2")).all()
    assert kinds == ["retagged", "tags_chosen"]
    assert not list(mine.layout.work.iterdir())


def test_a_second_time_changes_nothing(
    database: Database, service: Any, publish: Callable[..., UUID], retagger: Retagger
) -> None:
    service.faults.append("503")
    job = publish()
    retagger.retag(job)
    path, asked = file_of(database, job), len(service.asked)
    before = path.stat()
    assert [one.changed for one in retagger.retag(job).files] == [False]
    assert (path.stat().st_mtime_ns, path.stat().st_ino) == (before.st_mtime_ns, before.st_ino)
    assert len(service.asked) == asked  # that there is no cover is kept too
    consistent(database, job)


def test_while_the_outage_lasts_it_stays_pending(
    database: Database, service: Any, publish: Callable[..., UUID], retagger: Retagger
) -> None:
    service.faults.extend(["503"] * 9)
    job = publish()
    done = retagger.retag(job)
    assert done.pending
    assert [one.changed for one in done.files] == [False]
    with database.session() as session:
        assert known.pending(session) == [job]
    consistent(database, job)


@pytest.mark.parametrize("kind", ["flac", "mp3", "m4a", "ogg", "opus", "wav"])
def test_every_format_can_be_retagged_and_twice_is_once(  # noqa: PLR0917 - fixtures
    kind: str, database: Database, service: Any, publish: Callable[..., UUID], retagger: Retagger, jpeg: bytes
) -> None:
    service.faults.append("503")
    picture = Picture(PictureType.FRONT_COVER, "image/jpeg", "", 50, 40, data=jpeg)
    job = publish(UNKNOWN, kind, picture)
    first = retagger.retag(job).files[0]
    assert first.changed
    assert not retagger.retag(job).files[0].changed
    consistent(database, job)


def test_the_operator_picks_and_changes_his_mind(
    database: Database, service: Any, publish: Callable[..., UUID], retagger: Retagger
) -> None:
    [xml] = service.recordings
    service.recordings = [
        xml.replace('"rec1"', f'"{name}"').replace(">Song<", ">Blues<").replace(">Album</title>", f">{name}</title>")
        for name in ("First", "Second")
    ]
    job = publish(TrackTags(title="Blue", artists=("Zed",)))
    offered = retagger.candidates(job)
    assert offered is not None
    assert offered.status == "ambiguous"
    albums = [candidate.album for _, candidate in offered.candidates]
    assert sorted(map(str, albums)) == ["First", "Second"]
    for number in (2, 1):
        retagger.pick(job, number)
        retagger.retag(job)
        assert mutagen.File(file_of(database, job))["album"] == [f"{albums[number - 1]} (Instrumentals)"]
        consistent(database, job)
    with pytest.raises(BadRequest, match="2 candidates"):
        retagger.pick(job, 3)
    assert mutagen.File(file_of(database, job))["title"] == ["Blue (Instrumental)"]  # a tag that was there stays


def test_a_file_that_somebody_changed_is_left(
    database: Database, service: Any, publish: Callable[..., UUID], retagger: Retagger
) -> None:
    service.faults.append("503")
    job = publish()
    path = file_of(database, job)
    tags = mutagen.File(path)
    tags["comment"] = "mine"
    tags.save()
    before = path.read_bytes()
    with pytest.raises(FileChanged):
        retagger.retag(job)
    assert path.read_bytes() == before
    path.unlink()
    with pytest.raises(FileChanged, match="gone"):
        retagger.retag(job)


def test_a_file_that_somebody_changes_while_its_new_bytes_are_copied_is_left(
    database: Database, service: Any, publish: Callable[..., UUID], retagger: Retagger, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.faults.append("503")
    job = publish()
    path = file_of(database, job)
    copy = durable.copy_to_temporary

    def slow(source: Path, temporary: Path, expected: str) -> None:
        copy(source, temporary, expected)
        path.write_bytes(b"mine")

    monkeypatch.setattr(durable, "copy_to_temporary", slow)
    with pytest.raises(FileChanged):
        retagger.retag(job)
    assert path.read_bytes() == b"mine"
    assert not [one for one in path.parent.iterdir() if durable.is_temporary(one.name)]


def test_rotten_audio_is_not_taken_for_ours(
    database: Database, publish: Callable[..., UUID], retagger: Retagger
) -> None:
    job = publish(TrackTags(title="Song", artists=("Ann",), album="Album"))
    path = file_of(database, job)
    content = bytearray(path.read_bytes())
    content[-2] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(FileChanged):
        retagger.retag(job)


@pytest.mark.parametrize("moment", ["retag.record", "records.update"])
def test_a_crash_after_the_file_was_replaced_is_mended(  # noqa: PLR0917 - fixtures
    moment: str, database: Database, service: Any, publish: Callable[..., UUID], retagger: Retagger,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    service.faults.append("503")
    job = publish()
    path = file_of(database, job)
    before = durable.digest(path)

    def crash(*_: object, **__: object) -> None:
        if durable.digest(path) != before:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(f"ironclad.ops.library.{moment}", crash)
        with pytest.raises(KeyboardInterrupt):
            retagger.retag(job)
    assert artifacts(database, job)["instrumental"][2] != durable.digest(path)  # the row still says the old bytes
    done = retagger.retag(job)
    assert done.files[0].changed
    consistent(database, job)


def test_nothing_is_written_while_an_attempt_runs(
    database: Database, service: Any, publish: Callable[..., UUID], retagger: Retagger
) -> None:
    service.faults.append("503")
    job = publish()
    path = file_of(database, job)
    before = durable.digest(path)
    with database.session() as session:
        control.replay(session, job, stage="separate", actor="test", pools=POOLS)
    with pytest.raises(IllegalTransition):
        retagger.retag(job)
    with database.session() as session:
        lease.claim(session, job, 2, worker="test", lease_seconds=60)
    for call in (retagger.retag, lambda one: retagger.pick(one, 1)):
        with pytest.raises((IllegalTransition, BadRequest)):
            call(job)
    assert durable.digest(path) == before


def test_an_attempt_that_ran_meanwhile_wins(
    database: Database, service: Any, publish: Callable[..., UUID], retagger: Retagger, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.faults.append("503")
    job = publish()
    path = file_of(database, job)
    before = durable.digest(path)
    verify = Retagger._verify

    def slow(self: Retagger, old: Path, new: Path) -> None:
        verify(self, old, new)
        with database.session() as session:
            control.replay(session, job, stage="separate", actor="test", pools=POOLS)
        with database.session() as session:
            claim = lease.claim(session, job, 2, worker="test", lease_seconds=60)
            assert claim is not None
        with database.session() as session:
            lease.finish(session, claim.fence, lease.JobState.SUCCEEDED, actor="test")

    monkeypatch.setattr(Retagger, "_verify", slow)
    with pytest.raises(IllegalTransition, match="ran again"):
        retagger.retag(job)
    assert durable.digest(path) == before
    consistent(database, job)


def test_no_attempt_can_begin_while_files_are_replaced(
    database: Database, service: Any, publish: Callable[..., UUID], retagger: Retagger,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    service.faults.append("503")
    job = publish()
    refused: list[str] = []
    replace = durable.replace

    def watching(temporary: Path, final: Path) -> None:
        with database.engine.connect() as other:
            row = other.execute(sa.text("SELECT 1 FROM job WHERE job_uuid = :j FOR UPDATE SKIP LOCKED"), {"j": job})
            refused.append("locked" if row.first() is None else "free")
        replace(temporary, final)

    monkeypatch.setattr(durable, "replace", watching)
    retagger.retag(job)
    assert refused == ["locked"]


def test_without_a_lookup_a_changed_policy_is_applied(
    database: Database, mine: Settings, publish: Callable[..., UUID]
) -> None:
    job = publish(TrackTags(title="Song", artists=("Ann",), album="Album"))
    output = mine.output.model_copy(update={"album_policy": "same-album"})
    done = Retagger(database, mine.model_copy(update={"output": output}), "test").retag(job)
    assert done.lookup is not None
    assert done.lookup.status == "not-needed"
    assert mutagen.File(file_of(database, job))["album"] == ["Album"]
    consistent(database, job)


def test_a_chosen_candidate_makes_the_next_run_the_same(
    database: Database, service: Any, publish: Callable[..., UUID], retagger: Retagger
) -> None:
    service.faults.append("503")
    job = publish()
    retagger.retag(job)
    with database.session() as session:
        options = session.scalar(sa.text("SELECT options FROM job"))
    assert options[online.CHOSEN]["album_id"] == "r1"
    Outage(database, "musicbrainz").end()


def test_a_job_of_which_nothing_is_on_record(
    database: Database, mine: Settings, retagger: Retagger, tmp_path: Path
) -> None:
    claim = claimed(database, mine, tmp_path / "x.flac")
    with database.session() as session:
        lease.finish(session, claim.fence, lease.JobState.SUCCEEDED, actor="test")
    with pytest.raises(BadRequest, match="not on record"):
        retagger.retag(claim.job.job_uuid)
    assert retagger.candidates(claim.job.job_uuid) is None


def test_a_cover_that_was_pending_is_fetched_or_no_longer_waited_for(  # noqa: PLR0917 - fixtures
    database: Database, mine: Settings, service: Any, publish: Callable[..., UUID], retagger: Retagger, jpeg: bytes
) -> None:
    service.faults.extend(["", "503"])
    job, other = publish(), publish()  # the second does not even ask: the archive is known to be away
    with database.session() as session:
        assert known.pending(session) == [job, other]
    service.cover = jpeg
    assert retagger.retag(job).cover == "found"
    assert mutagen.File(file_of(database, job)).pictures[0].data == jpeg
    no_covers = mine.metadata.model_copy(update={"cover_art": Settings().metadata.cover_art})
    off = mine.model_copy(update={"metadata": no_covers})
    assert Retagger(database, off, "test").retag(other).cover == "not-asked"
    with database.session() as session:
        assert known.pending(session) == []
    consistent(database, job)
