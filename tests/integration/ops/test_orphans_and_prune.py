"""Orphans are found, explained and set aside; what is old or over its quota is pruned, and nothing else."""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from ironclad import durable
from ironclad.errors import StorageError
from ironclad.jobs import submit
from ironclad.jobs.ids import uuid7
from ironclad.ops import backup, housekeeper, orphans, prune
from ironclad.ops.housekeeper import Housekeeper
from ironclad.ops.orphans import Kind
from ironclad.sections import PruneRule
from ironclad.stages import filing

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from uuid import UUID

    from ironclad.config import Settings
    from ironclad.db.session import Database

DAY = 86400.0


@pytest.fixture
def make(database: Database, settings: Settings, tmp_path: Path) -> Callable[..., UUID]:
    """`make("failed")`: a job in a state, its original in the archive."""

    def job(state: str = "succeeded") -> UUID:
        file = tmp_path / f"{uuid7()}.flac"
        file.write_bytes(file.name.encode())
        new = submit.NewJob(user_id="ana", source=file, relative_path=file.name, stat=file.stat(), ingest_mode="copy")
        with database.session() as session:
            made = submit.receive(session, new, settings)
        folder = settings.layout.archive_of(made.job_uuid)
        folder.mkdir(parents=True)
        (folder / made.archive_name).write_bytes(file.read_bytes())
        with database.session() as session:
            submit.claimed(session, made.job_uuid, durable.digest(file))
        if state != "queued":
            with database.session() as session:
                session.execute(sa.text("ALTER TABLE job DISABLE TRIGGER USER"))
                session.execute(
                    sa.text("UPDATE job SET state = :state, finished_at = now() WHERE job_uuid = :job"),
                    {"state": state, "job": made.job_uuid},
                )
                session.execute(sa.text("ALTER TABLE job ENABLE TRIGGER USER"))
        return made.job_uuid

    return job


def age(path: Path, seconds: float) -> None:
    at = time.time() - seconds
    os.utime(path, (at, at), follow_symlinks=False)


def found(database: Database, settings: Settings, **more: Any) -> dict[str, Kind]:
    return {one.path.name: one.kind for one in orphans.find(database, settings, **more)}


def publish(database: Database, settings: Settings, job: UUID, data: bytes = b"music") -> Path:
    path = settings.layout.output / f"{job}.flac"
    path.write_bytes(data)
    with database.session() as session:
        session.execute(
            sa.text(
                "INSERT INTO artifact (artifact_uuid, job_uuid, attempt, kind, path, size, blake3, state) "
                "VALUES (:id, :job, 1, 'instrumental', :path, 5, :digest, 'published')"
            ),
            {"id": uuid7(), "job": job, "path": str(path), "digest": durable.digest(path)},
        )
    return path


def test_an_installation_in_order_has_no_orphans(database: Database, settings: Settings, make: Any) -> None:
    publish(database, settings, make())
    make("queued")
    assert found(database, settings, hashes=True, quiet_seconds=0) == {}


def test_folders_without_a_job(database: Database, settings: Settings) -> None:
    stranger = uuid7()
    folders = [
        settings.layout.archive_of(stranger), settings.layout.work_of(stranger),
        settings.layout.error_of(stranger, "E_X"),
    ]  # fmt: skip
    for folder in folders:
        folder.mkdir()
        (folder / "original.flac").write_bytes(b"precious")
    (settings.layout.archive / "somebody's notes").mkdir()
    assert found(database, settings) == {}  # too young: a claim may be about to insert its row
    listed = list(orphans.find(database, settings, quiet_seconds=0))
    assert {one.kind for one in listed} == {Kind.NO_JOB}
    assert sorted(one.path for one in listed) == sorted(folders)
    for one in listed:
        fixed = orphans.fix(database, settings, one)
        assert fixed.moved is not None
        assert (fixed.moved / "original.flac").read_bytes() == b"precious"
        reason = json.loads((fixed.moved.parent / "reason.json").read_text())
        assert reason["path"] == str(one.path)
        assert str(stranger) in reason["reason"]
    assert found(database, settings, quiet_seconds=0) == {}


def test_jobs_without_files(database: Database, settings: Settings, make: Any) -> None:
    job, other = make("queued"), make()
    original = settings.layout.archive_of(job) / "original.flac"
    original.unlink()
    published = publish(database, settings, other)
    published.unlink()
    listed = {one.path: one for one in orphans.find(database, settings)}
    assert {path: one.kind for path, one in listed.items()} == {original: Kind.NO_FILE, published: Kind.NO_FILE}
    assert "submit it again" in listed[original].todo
    assert "replay" in listed[published].todo
    assert orphans.fix(database, settings, listed[original]).moved is None  # nothing to move


def test_leftovers_of_crashes(database: Database, settings: Settings, make: Any) -> None:
    job = make()
    part = settings.layout.output / "Ana" / f".{job.hex}.1.part"
    part.parent.mkdir()
    part.write_bytes(b"half")
    gone = settings.layout.work / f".{'a' * 16}.gone"
    gone.mkdir()
    (settings.layout.output / ".hidden-by-the-user").write_bytes(b"x")
    assert found(database, settings) == {}
    age(part, 7200)
    age(gone, 7200)
    assert found(database, settings) == {part.name: Kind.UNFINISHED, gone.name: Kind.UNFINISHED}
    for one in list(orphans.find(database, settings)):
        orphans.fix(database, settings, one)
    assert not part.exists()
    assert not gone.exists()
    assert len(list(settings.layout.orphaned.iterdir())) == 2


def test_damage_is_found_by_its_hash_and_makes_way_for_a_replay(
    database: Database, settings: Settings, make: Any
) -> None:
    path = publish(database, settings, make())
    path.write_bytes(b"mosic")
    assert found(database, settings) == {}
    [one] = orphans.find(database, settings, hashes=True)
    assert one.kind is Kind.DAMAGED
    fixed = orphans.fix(database, settings, one)
    assert fixed.moved is not None
    assert fixed.moved.read_bytes() == b"mosic"
    assert found(database, settings, hashes=True) == {}


@pytest.mark.parametrize("since", ["written anew", "replaced", "runs"])
def test_what_was_damaged_when_it_was_read_is_looked_at_again(
    database: Database, settings: Settings, make: Any, since: str
) -> None:
    job = make()
    path = publish(database, settings, job)
    path.write_bytes(b"mosic")
    [one] = orphans.find(database, settings, hashes=True)
    changes = {
        "written anew": ("UPDATE artifact SET blake3 = :digest", {"digest": durable.digest(path)}),  # by a retag
        "replaced": ("UPDATE artifact SET state = 'superseded'", {}),
        "runs": (
            "UPDATE job SET state = 'running', lease_token = gen_random_uuid(), lease_expires_at = now(), attempt = 2",
            {},
        ),
    }
    statement, values = changes[since]
    with database.session() as session:
        session.execute(sa.text("ALTER TABLE job DISABLE TRIGGER USER"))
        session.execute(sa.text(statement), values)
        session.execute(sa.text("ALTER TABLE job ENABLE TRIGGER USER"))
    assert orphans.fix(database, settings, one).moved is None
    assert path.read_bytes() == b"mosic"
    assert list(settings.layout.orphaned.iterdir()) == []


def test_a_misplaced_original_is_filed_again(database: Database, settings: Settings, make: Any) -> None:
    job = make("failed")
    with database.session() as session:
        session.execute(sa.text("UPDATE job SET filed = true, error_code = 'E_NOT_AUDIO'"))
    [one] = orphans.find(database, settings)
    assert one.kind is Kind.MISPLACED
    orphans.fix(database, settings, one)
    filing.sweep(database, settings)
    assert (settings.layout.error_of(job, "E_NOT_AUDIO") / "original.flac").exists()
    assert found(database, settings) == {}


# --- prune ---


def with_rules(settings: Settings, **rules: PruneRule) -> Settings:
    return settings.model_copy(update={"prune": settings.prune.model_copy(update=rules)})


def test_old_stage_folders_of_settled_jobs_go(database: Database, settings: Settings, make: Any) -> None:
    jobs = {state: make(state) for state in ("succeeded", "failed", "queued")}
    for job in jobs.values():
        folder = settings.layout.work_of(job) / "stage"
        folder.mkdir(parents=True)
        (folder / "x").write_bytes(b"12345")
        age(folder.parent, 8 * DAY)
    young = make()
    settings.layout.work_of(young).mkdir()
    planned = {victim.job_uuid: victim for victim in prune.plan(database, settings)}
    assert set(planned) == {jobs["succeeded"], jobs["failed"]}
    assert planned[jobs["failed"]].bytes == 5
    assert prune.run(database, settings) == (2, 10)
    assert sorted(path.name for path in settings.layout.work.iterdir()) == sorted([str(jobs["queued"]), str(young)])
    with database.session() as session:
        [event] = session.execute(
            sa.text("SELECT data FROM job_event WHERE kind = 'deleted' AND job_uuid = :job"), {"job": jobs["failed"]}
        ).all()
    assert event.data["reason"] == "older than 7 days"


def test_a_deletion_is_on_record_before_it_happens(
    database: Database, settings: Settings, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever is killed in the middle of one leaves nothing that is gone without a word."""
    job = make()
    folder = settings.layout.work_of(job)
    folder.mkdir()
    [victim] = prune.plan(database, settings, now=time.time() + 8 * DAY)
    before: list[Any] = []

    def remove_tree(path: Path, **_: object) -> None:
        with database.session() as another:
            before.extend(another.scalars(sa.text("SELECT data ->> 'path' FROM job_event WHERE kind = 'deleted'")))
            # nobody can take the job up meanwhile
            assert not another.execute(sa.text("SELECT 1 FROM job FOR UPDATE SKIP LOCKED")).all()
        raise StorageError("the disk is broken", path=path)

    with monkeypatch.context() as broken:
        broken.setattr(prune.durable, "remove_tree", remove_tree)
        with pytest.raises(StorageError):
            prune.remove(database, victim)
    assert before == [str(folder)]
    assert folder.exists()
    assert prune.remove(database, victim)
    assert not folder.exists()


def test_originals_stay_unless_a_rule_says_otherwise(database: Database, settings: Settings, make: Any) -> None:
    job = make()
    folder = settings.layout.archive_of(job)
    age(folder, 10_000 * DAY)
    assert list(prune.plan(database, settings)) == []
    assert prune.run(database, with_rules(settings, archive=PruneRule(days=365))) == (1, len(f"{job}.flac"))
    assert not folder.exists()


def test_an_original_that_a_rule_let_go_is_not_lost(database: Database, settings: Settings, make: Any) -> None:
    """Else what is really gone would be one line among all that were pruned, each to be submitted again."""
    kept, pruned, filed, lost = make(), make(), make("failed"), make()
    age(settings.layout.archive_of(pruned), 10_000 * DAY)
    failed = settings.layout.error_of(filed, "E_X")
    settings.layout.archive_of(filed).rename(failed)
    rules = with_rules(settings, archive=PruneRule(days=365), error=PruneRule(days=365))
    assert prune.run(database, rules)[0] == 1
    assert found(database, rules) == {}
    age(failed, 10_000 * DAY)
    assert prune.run(database, rules)[0] == 1
    original = settings.layout.archive_of(lost) / "original.flac"
    original.unlink()
    work = settings.layout.work_of(lost)
    work.mkdir()
    age(work, 10_000 * DAY)
    assert prune.run(database, rules)[0] == 1  # of the same job, but no original
    assert [(one.kind, one.path) for one in orphans.find(database, rules)] == [(Kind.NO_FILE, original)]
    assert (settings.layout.archive_of(kept) / "original.flac").exists()


def test_a_quota_takes_the_oldest(database: Database, settings: Settings, make: Any) -> None:
    jobs = [make() for _ in range(3)]
    for number, job in enumerate(jobs):
        folder = settings.layout.work_of(job)
        folder.mkdir()
        (folder / "x").write_bytes(b"x" * 100)
        age(folder, (3 - number) * 3600.0)
    rules = with_rules(settings, work=PruneRule(max_bytes=150))
    assert [victim.job_uuid for victim in prune.plan(database, rules)] == jobs[:2]


def test_a_job_that_is_taken_up_again_is_spared(database: Database, settings: Settings, make: Any) -> None:
    job = make("failed")
    settings.layout.work_of(job).mkdir()
    [victim] = prune.plan(database, settings, now=time.time() + 8 * DAY)
    with database.session() as session:
        session.execute(sa.text("UPDATE job SET state = 'queued'"))
    assert prune.remove(database, victim) is False
    assert settings.layout.work_of(job).exists()


def test_a_round_sets_leftovers_aside_and_prunes(database: Database, settings: Settings, make: Any) -> None:
    job = make()
    folder = settings.layout.work_of(job)
    folder.mkdir()
    (folder / "x").write_bytes(b"12345")
    age(folder, 8 * DAY)
    part = settings.layout.output / f".{job.hex}.1.part"
    part.write_bytes(b"half")
    age(part, 2 * DAY)
    assert housekeeper.since_last(database) is None
    assert housekeeper.tidy(database, settings) == housekeeper.Round(set_aside=1, pruned=1, bytes=5)
    assert not folder.exists()
    assert not part.exists()
    ago = housekeeper.since_last(database)
    assert ago is not None
    assert 0 <= ago < 60


def test_folders_that_may_not_be_read_or_go_meanwhile_stop_no_round(
    database: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, error in (("lost+found", PermissionError), ("gone", FileNotFoundError)):
        closed = settings.layout.output / name
        closed.mkdir()
        iterdir = type(closed).iterdir

        def refused(path: Path, closed: Path = closed, error: type[OSError] = error, iterdir: Any = iterdir) -> Any:
            if path == closed:
                raise error(1, "no", str(path))
            return iterdir(path)

        monkeypatch.setattr(type(closed), "iterdir", refused)
    assert housekeeper.tidy(database, settings) == housekeeper.Round(0, 0, 0)
    assert not backup.due(settings)


def test_what_cannot_be_moved_or_deleted_keeps_nothing_else_from_it(
    database: Database, settings: Settings, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = [settings.layout.output / f".{make().hex}.{number}.part" for number in (1, 2)]
    folders = [settings.layout.work_of(make()) for _ in range(2)]
    for path in (*parts, *folders):
        path.write_bytes(b"half") if path in parts else path.mkdir()
        age(path, 8 * DAY)

    def stuck(then: Any, *paths: Path) -> Any:
        def call(path: Path, *more: Any, **named: Any) -> None:
            if path in paths:
                raise StorageError(f"{path}: busy")
            then(path, *more, **named)

        return call

    monkeypatch.setattr(durable, "move", stuck(durable.move, parts[0]))
    monkeypatch.setattr(durable, "remove_tree", stuck(durable.remove_tree, folders[0]))
    with pytest.raises(StorageError, match="busy"):
        housekeeper.tidy(database, settings)
    assert [path.exists() for path in (*parts, *folders)] == [True, False, True, False]
    assert not backup.due(settings)
    assert housekeeper.since_last(database) is not None


def test_only_one_round_at_a_time(database: Database, settings: Settings) -> None:
    with housekeeper._alone(database) as first:
        assert first
        assert housekeeper.tidy(database, settings) is None
    assert housekeeper.tidy(database, settings) == housekeeper.Round(0, 0, 0)


def test_the_dispatcher_steps_in_where_the_flow_is_overdue(database: Database, settings: Settings) -> None:
    settings = settings.model_copy(update={"backup": settings.backup.model_copy(update={"max_age_hours": 0.0})})
    clock = [0.0]
    keeper = Housekeeper(database, settings, lambda: clock[0])
    assert keeper.step() is False
    clock[0] = 26 * 3600.0
    assert keeper.step() is False  # the flow's turn: overdue is twice the interval
    clock[0] = 49 * 3600.0
    assert keeper.step() is True
    keeper.wait(120)
    clock[0] += 3600.0
    assert keeper.step() is False
    with database.session() as session:
        session.execute(sa.text("UPDATE control SET updated_at = now() - interval '3 days' WHERE name = 'maintenance'"))
    clock[0] += 3600.0
    assert keeper.step() is True
    keeper.wait(120)


def test_a_backup_that_is_due_is_not_left_to_the_flow(database: Database, settings: Settings) -> None:
    clock = [0.0]
    keeper = Housekeeper(database, settings, lambda: clock[0])
    clock[0] = 601.0
    assert backup.due(settings)
    assert keeper.step() is True
    keeper.wait(120)
    assert not backup.due(settings)


def test_a_full_disk_is_pruned_at_once(database: Database, settings: Settings) -> None:
    """Below the floor all pools are paused, so that no flow can do it."""
    clock = [0.0]
    keeper = Housekeeper(database, settings, lambda: clock[0])
    old = settings.layout.orphaned / "old"
    old.mkdir()
    age(old, 31 * DAY)
    assert keeper.step(low=True) is True
    keeper.wait(120)
    assert not old.exists()
    clock[0] = 120.0
    assert keeper.step(low=True) is False  # what could go is gone
