"""The protocols under test: each prepares a world, acts (here it is killed), and recovers as a restart would."""

from __future__ import annotations

import contextlib
import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

from chaoslab import stubs
from chaoslab.world import IDLE, SONG, STRANGER
from ironclad import durable
from ironclad.errors import AlreadyReceived, IroncladError
from ironclad.ingest import claim as ingest
from ironclad.jobs import control, lease, reap, submit
from ironclad.ops import orphans, prune
from ironclad.ops.install import files
from ironclad.sections import PruneSettings
from ironclad.stages import filing
from ironclad.stages.runner import run_claim

if TYPE_CHECKING:
    from collections.abc import Callable

    from chaoslab.world import World

REAL_SONG = "song.flac"
JOB = UUID("01900000-0000-7000-8000-000000000001")
_POOLS = frozenset({"cpu"})
_RECOVERIES = 6


@dataclass(frozen=True, slots=True)
class Protocol:
    """One way of touching files.

    `act` is what gets killed. `recover` does what the services of a restarted installation do, until nothing is left to
    do. `state` is how the job must end; `leaves_source` whether the file stays in the watch root.
    """

    name: str
    what: str
    prepare: Callable[[World], None]
    act: Callable[[World], None]
    recover: Callable[[World], None]
    state: str | None = "succeeded"
    leaves_source: bool = False
    stubs: stubs.Stubs = field(default_factory=stubs.Stubs)
    real: bool = False
    """Whether the real stages run: decoder, engine and encoders, on a real song."""
    check: Callable[[World], list[str]] = lambda _world: []
    """Violations of promises of its own, at any instant."""


# --- ingest ---


def source_of(world: World) -> bytes:
    """The source's bytes: made up, or a real song that was put beside the world."""
    real = world.outside.parent / REAL_SONG
    return real.read_bytes() if world.real else SONG


def _source(world: World, folder: Path) -> Path:
    path = folder / "ana" / "01 Blue.flac"
    path.parent.mkdir(parents=True)
    path.write_bytes(source_of(world))
    return path


def _new(world: World, path: Path, mode: str) -> submit.NewJob:
    return submit.NewJob(
        user_id="ana", source=path, relative_path=path.name, stat=path.lstat(), watch_root=str(path.parent),
        ingest_mode=mode,
    )  # fmt: skip


def _ingest(name: str, mode: str, *, across: bool) -> Protocol:
    def root(world: World) -> Path:
        return (world.outside if across else world.root) / "input"

    def prepare(world: World) -> None:
        world.settings.layout.create()
        _source(world, root(world))
        world.rows("SELECT 1")

    def act(world: World) -> None:
        path = root(world) / "ana" / "01 Blue.flac"
        ingest.take(world.database, world.settings, _new(world, path, mode))

    def recover(world: World) -> None:
        for _ in range(_RECOVERIES):
            if not ingest.recover(world.database, world.settings).pending:
                break
        path = root(world) / "ana" / "01 Blue.flac"
        if (
            path.exists()
        ):  # the watcher finds it again, maybe after it was refused: ids are fixed here, so that row goes
            world.rows("DELETE FROM job WHERE state = 'failed'")
            with contextlib.suppress(AlreadyReceived):
                ingest.take(world.database, world.settings, _new(world, path, mode))

    return Protocol(
        name, f"ingest claim, mode {mode}" + (", from another file system" if across else ""), prepare, act, recover,
        state="queued", leaves_source=mode != "move",
    )  # fmt: skip


# --- stages, publish, filing ---


def _queued(world: World) -> UUID:
    world.settings.layout.create()
    outcome = ingest.take(
        world.database, world.settings, _new(world, _source(world, world.settings.layout.input), "move")
    )
    return outcome.job_uuid


def _job(world: World) -> UUID:
    return UUID(str(world.rows("SELECT job_uuid FROM job ORDER BY job_uuid LIMIT 1")[0]["job_uuid"]))


def _attempt(world: World) -> bool:
    """Claim the next job, as a worker does, and run it. False if there was none."""
    with world.database.session() as session:
        claim = lease.claim_next(session, "cpu", worker="lab", lease_seconds=world.settings.jobs.lease_seconds)
    if claim is None:
        return False
    run_claim(world.database, world.settings, claim, worker="lab")
    return True


def _restart(world: World) -> None:
    """What dispatcher and worker do after a crash: reap, queue what is due, run, file; until all is settled."""
    later = world.later()
    for _ in range(_RECOVERIES):
        result = reap.Reaped()
        with later.session() as session:
            reap.expired(session, world.settings.jobs, result)
            reap.due(session, result)
        while _attempt(world):
            pass
        try:
            filing.sweep(world.database, world.settings)
        except IroncladError:
            continue
        if not world.rows("SELECT 1 FROM job WHERE state IN ('queued', 'running', 'waiting_retry')"):
            break
        time.sleep(IDLE / 2)  # a stopped process may hold a row until the server ends its transaction
    later.close()
    for job in world.rows("SELECT job_uuid FROM job WHERE state IN ('succeeded', 'skipped')"):
        filing.settle(world.database, world.settings, UUID(str(job["job_uuid"])), wait=False)


def _run(world: World) -> None:
    _attempt(world)


def _pipeline(
    name: str, what: str, *, prepare: Callable[[World], None], state: str = "succeeded", **stub: object
) -> Protocol:
    return Protocol(name, what, prepare, _run, _restart, state=state, stubs=stubs.Stubs(**stub))  # type: ignore[arg-type]  # its own fields


def _prepare_queued(world: World) -> None:
    _queued(world)


def _prepare_taken(world: World) -> None:
    """Somebody else's file has the name that the song would get."""
    _queued(world)
    for name in stubs.WANTED:
        path = world.settings.layout.output / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(STRANGER)


def _prepare_replay(world: World) -> None:
    """The job succeeded; it is replayed with another engine parameter, so its files are replaced."""
    job = _queued(world)
    _attempt(world)
    with world.database.session() as session:
        control.replay(session, job, stage="separate", actor="lab", pools=_POOLS, parameters={"take": 2})


_OTHER = "Shades"


def _prepare_renamed(world: World) -> None:
    """The job succeeded, and somebody has changed one of its files since; it is replayed under another album's name."""
    job = _queued(world)
    _attempt(world)
    (world.settings.layout.output / stubs.WANTED[1]).write_bytes(STRANGER)
    with world.database.session() as session:
        control.replay(session, job, stage="separate", actor="lab", pools=_POOLS, parameters={"album": _OTHER})


def _renamed_check(world: World) -> list[str]:
    """The library always has the song, of each file that left it the history says so, and a changed one stays."""
    output = world.settings.layout.output
    if not any((output / stubs.renamed(0, album)).is_file() for album in (stubs.ALBUM, _OTHER)):
        return ["the library has lost the song"]
    changed = output / stubs.WANTED[1]
    bad = [] if changed.is_file() and changed.read_bytes() == STRANGER else ["a changed file is lost"]
    gone = world.rows(
        "SELECT DISTINCT path FROM artifact old WHERE published_at IS NOT NULL AND NOT EXISTS (SELECT 1 FROM artifact "
        "live WHERE live.path = old.path AND live.state <> 'superseded') AND NOT EXISTS (SELECT 1 FROM job_event said "
        "WHERE said.job_uuid = old.job_uuid AND kind = 'removed' AND said.data ->> 'path' = old.path)"
    )
    return bad + [f"removed without a word: {row['path']}" for row in gone if not Path(row["path"]).exists()]


def _prepare_retry(world: World) -> None:
    """The job failed and its original was filed; it is tried again and will succeed now."""
    job = _queued(world)
    with stubs.installed(stubs.Stubs(reject=True)):
        _attempt(world)
    filing.sweep(world.database, world.settings)
    with world.database.session() as session:
        control.retry(session, job, actor="lab", pools=_POOLS)


def _prepare_done(world: World) -> None:
    """A job that succeeded; a crash has left its stage folder, a temporary file and a folder that no job knows."""
    job = _queued(world)
    _attempt(world)
    layout = world.settings.layout
    for folder in (layout.work_of(job) / "stage", layout.work / str(UUID(int=JOB.int + 1)) / "stage"):
        folder.mkdir(parents=True)
        (folder / "mixture.f32").write_bytes(SONG)
        (folder / "marker.json").write_bytes(b"{}")
    (layout.output / f".{JOB.hex}.1.part").write_bytes(SONG[:1000])


def _tidy(world: World) -> None:
    """What the housekeeper and `ironclad orphans --fix` do."""
    for orphan in list(orphans.find(world.database, world.settings, quiet_seconds=0.0)):
        orphans.fix(world.database, world.settings, orphan)
    prune.run(world.database, world.settings, now=time.time() + 20 * 86400)


_PRUNED = {"days": 1.0}
_RULES = PruneSettings.model_validate(dict.fromkeys(prune.CLASSES, _PRUNED))


def _prepare_old(world: World) -> None:
    """A job that succeeded, of a file that its owner kept; what is left of it is old, as is what was set aside."""
    world.settings.layout.create()
    layout = world.settings.layout
    job = ingest.take(world.database, world.settings, _new(world, _source(world, layout.input), "copy")).job_uuid
    _attempt(world)
    (layout.work_of(job) / "stage").mkdir(parents=True, exist_ok=True)
    layout.job_log(job).parent.mkdir(parents=True, exist_ok=True)
    for path in (
        layout.work_of(job) / "stage" / "mixture.f32", layout.job_log(job), layout.orphaned / "found" / "song.flac",
    ):  # fmt: skip
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(SONG)


def _prune(world: World) -> None:
    """What the flow `maintenance` and `ironclad prune` do, with a rule for every class."""
    settings = world.settings.model_copy(update={"prune": _RULES})
    prune.run(world.database, settings, now=time.time() + 100 * 86400)


def _prune_check(world: World) -> list[str]:
    """Of each thing of a job that is gone, its history says so."""
    layout = world.settings.layout
    said = {row["path"] for row in world.rows("SELECT data ->> 'path' AS path FROM job_event WHERE kind = 'deleted'")}
    job = _job(world)
    return [
        f"deleted without a word: {path.name}"
        for path in (layout.archive / str(job), layout.work_of(job), layout.job_log(job))
        if not path.exists() and str(path) not in said
    ]


def _write_prepare(world: World) -> None:
    (world.root / "logs").mkdir()
    (world.root / "logs" / "skipped.json").write_bytes(b'{"old": true}')


def _write(world: World) -> None:
    path = world.root / "logs" / "skipped.json"
    for number in range(3):
        durable.write_atomic(path, json.dumps({"number": number, "filler": "x" * 9000}).encode())


_UNIT = "[Service]\nExecStart=/opt/ironclad\n"
_EDITED = files.sealed(_UNIT) + "# what an operator added\n"
_WANTED = {Path(name): f"{_UNIT}# version 2, {name}\n" + "# filler\n" * 2000 for name in ("a", "deep/er/b", "c")}


def _install_prepare(world: World) -> None:
    """`a` is as an earlier version wrote it, `c` was edited by an operator, `old` is no longer wanted."""
    host = world.root / "host"
    host.mkdir()
    for name, text in (("a", files.sealed(_UNIT)), ("c", _EDITED), ("old", files.sealed(_UNIT))):
        (host / name).write_text(text)


def _install(world: World) -> None:
    """What `ironclad install --force` does with its configuration files."""
    files.write(files.plan(world.root / "host", _WANTED, ("old",), {Path("once.env"): "KEY=1\n"}), force=True)


def _install_check(world: World) -> list[str]:
    """Every configuration file is one version of it or the other, and no operator's line is lost."""
    whole = {files.sealed(_UNIT), _EDITED, "KEY=1\n", *map(files.sealed, _WANTED.values())}
    found = {
        path: path.read_text() for path in (world.root / "host").rglob("*")
        if path.is_file() and not durable.is_temporary(path.name)
    }  # fmt: skip
    bad = [f"a torn configuration file: {path.name}" for path, text in found.items() if text not in whole]
    return bad if _EDITED in found.values() else [*bad, "an operator's changes are lost"]


PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        _ingest("claim-move", "move", across=False),
        _ingest("claim-across", "move", across=True),
        _ingest("claim-copy", "copy", across=False),
        _ingest("claim-link", "link", across=False),
        _pipeline("pipeline", "every stage's commit, publish, settle", prepare=_prepare_queued),
        _pipeline("name-taken", "publish beside a stranger's file", prepare=_prepare_taken),
        _pipeline("replace", "replay: the job's own files are replaced", prepare=_prepare_replay),
        Protocol("renamed", "replay under other names: the older files go", _prepare_renamed, _run, _restart, check=_renamed_check),  # noqa: E501
        _pipeline("file-failed", "a rejected song is filed under error/", prepare=_prepare_queued, state="failed", reject=True),  # noqa: E501
        _pipeline("recall", "a failed song is taken back from error/", prepare=_prepare_retry),
        _pipeline("skip", "a skipped song, skipped.json", prepare=_prepare_queued, state="skipped", skip=True),
        Protocol("song", "a real song through the real stages", _prepare_queued, _run, _restart, real=True),
        Protocol("tidy", "leftovers set aside, stage folders pruned", _prepare_done, _tidy, _tidy),
        Protocol("prune", "what is old is deleted, in every class", _prepare_old, _prune, _prune, check=_prune_check),
        Protocol("config", "configuration files written over older and edited ones", _install_prepare, _install, _install, state=None, check=_install_check),  # noqa: E501
        Protocol("write-atomic", "a small file replaced (skipped.json, markers)", _write_prepare, _write, _write, state=None),  # noqa: E501
    )
}  # fmt: skip


def fixed_ids() -> None:
    """The one job of a world has the same id in every run, so that results can be compared byte by byte."""
    submit.uuid7 = lambda: JOB  # type: ignore[assignment]  # a seam of the laboratory
    submit.trace_id = lambda: "a" * 32  # type: ignore[assignment]  # likewise
