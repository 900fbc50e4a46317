"""Made-up installations for looking at screens: the same every time, to the second."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from ironclad.audio.sketch import Sketch
from ironclad.db.tables import Artifact, Attempt, Job, JobEvent, StageRun
from ironclad.errors import CATALOGUE, CorruptAudio, DatabaseUnavailable, EngineNotBuilt, NotFound
from ironclad.jobs.failures import FailureGroup
from ironclad.jobs.listing import Count, JobRow, Published, Sort, key_of
from ironclad.jobs.overview import Event, Glance, RunningJob, Service
from ironclad.jobs.query import JobDetail, PoolView
from ironclad.jobs.search import Filter
from ironclad.jobs.states import JobState
from ironclad.metadata.raster import Raster
from ironclad.notify.query import MessageView
from ironclad.ops.looking import ComponentHealth, DiskView, FolderSize, LogLine
from ironclad_tui.source import Done, EngineView, Finding, LibraryView, MaintenanceView, SettingView

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator, Sequence

    from ironclad.errors import IroncladError
    from ironclad.jobs.feed import Notice
    from ironclad.jobs.search import Term

NOW = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
HOSTILE = "\x1b[31m[bold]Bobby[/] \u202etables\x07"
STATES = ("running", "running", "queued", "failed", "succeeded", "succeeded", "waiting_retry", "skipped", "cancelled",
          "quarantined", "queued", "received")  # fmt: skip
ARTISTS = ("Ana Lima", "Ben Okri", "Čeněk Dvořák", "東京事変", HOSTILE)


def uuid(number: int) -> UUID:
    return UUID(f"019ca000-0000-7000-8000-{number:012x}")


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


def row(number: int, state: str | None = None) -> JobRow:
    state = state or STATES[number % len(STATES)]
    failed = state in {"failed", "quarantined"}
    return JobRow(
        job_uuid=uuid(10_000 - number), state=state, stage="separate" if failed or state == "running" else "validate",
        pool="cpu", user_id=("ana", "ben")[number % 2], engine="center", name=f"{ARTISTS[number % 5]} - Song {number}",
        album=f"Album {number % 7}", progress=0.43 if state == "running" else 0.0, held=number % 12 == 10,
        cancel_requested=False, error_code="E_ENGINE_DIED" if failed else None, attempt=1 + number % 2, priority=0,
        duration_seconds=187.0, created_at=ago(60.0 * number + 5), started_at=ago(60.0 * number),
        finished_at=ago(30.0 * number) if failed or state == "succeeded" else None, not_before=None, worker=None,
    )  # fmt: skip


def glance(kind: str) -> Glance:
    states = {state.value: 0 for state in JobState}
    if kind == "empty":
        return Glance(at=NOW, states=states, held=0, paused=False, disk_low=False)
    names = ("dispatch", "prefect", "watch", "worker-cpu")
    services = tuple(
        Service(
            f"{name}@box/a1b2c3", "worker" if name.startswith("worker") else name, "box", 4000 + i,
            "cpu" if name == "worker-cpu" else None, ago(7200), ago(3), False, {"status": "ok", "rss_bytes": 9e7},
        )
        for i, name in enumerate(names)
    )  # fmt: skip
    running = tuple(
        RunningJob(
            uuid(9_999 - i), f"{ARTISTS[i]} - Song {i + 1}", "ana", "cpu", "worker-cpu-1", "center", 1, "separate",
            0.4, "segment 4 of 9", 0.43 + i / 10, 31.0, 63.0 + i, cancelling=i == 1,
        )
        for i in range(2)
    )  # fmt: skip
    events = tuple(
        Event(100 - i, uuid(9_990 - i), ago(2.0 * i), kind_, state, "separate", "worker:worker-cpu-1",
              f"{ARTISTS[i % 5]} - Song {i}", code)
        for i, (kind_, state, code) in enumerate(
            [("succeeded", "succeeded", None), ("stage_done", None, None), ("failed", "failed", "E_ENGINE_DIED"),
             ("claimed", "running", None), ("received", "received", None)]
        )
    )  # fmt: skip
    done = tuple((minute * 7) % 5 for minute in range(60))
    view = Glance(
        at=NOW, states=states | {"queued": 14, "running": 2, "succeeded": 1234, "failed": 0}, held=1, paused=False,
        disk_low=False, services=services, running=running, succeeded=done, events=events,
        pools=(PoolView("cpu", 2, False, 2, 2, 12, 190.0), PoolView("gpu", 1, True, 0, 0, 0, None)),
    )  # fmt: skip
    if kind == "failing":
        late = Service("worker-gpu@attic/ffee00", "worker", "attic", 77, "gpu", ago(9000), ago(400), True, {})
        bad = tuple(3 if minute > 50 else 0 for minute in range(60))
        return Glance(
            at=NOW, states={**view.states, "failed": 27, "quarantined": 1, "waiting_retry": 3}, held=1, paused=True,
            disk_low=False, services=(*services, late), running=running, succeeded=done, failed=bad, events=events,
            pools=view.pools, dead_letters=2,
        )  # fmt: skip
    return view


class Staged:
    """A source made of nothing but numbers. `kind`: empty, busy, failing or away (the database does not answer)."""

    def __init__(self, kind: str = "busy", *, jobs: int = 400, read_only: bool = False) -> None:
        self.kind = kind
        self.read_only = read_only
        self.label = self.root = "/srv/music"
        self.error: IroncladError | None = None
        self.acted: list[tuple[str, tuple[UUID, ...], dict[str, Any]]] = []
        self.paused: list[tuple[str | None, bool]] = []
        self.settled: list[tuple[str, tuple[UUID, ...]]] = []
        self.slots: dict[str, int | None] = {}
        self.gone: set[UUID] = set()
        self.asked: list[str] = []
        self.list = [] if kind == "empty" else [row(number) for number in range(1, jobs + 1)]
        if kind == "away":
            self.error = DatabaseUnavailable("connection refused")

    def now(self) -> datetime:
        return NOW

    def listen(self, stopping: threading.Event) -> Iterator[Notice | None]:
        stopping.wait(60)
        yield None

    def _reach(self, what: str) -> None:
        self.asked.append(what)
        if self.error is not None:
            raise self.error

    def glance(self) -> Glance:
        self._reach("glance")
        return glance(self.kind)

    def disk(self) -> DiskView:
        return DiskView("/srv/music", 500 * 10**9, 120 * 10**9, 10**9)

    def _matching(self, wanted: Filter, sort: Sort) -> list[JobRow]:
        def holds(job: JobRow, term: Term) -> bool:
            text = {"state": job.state, "user": job.user_id, "error": job.error_code or "", "stage": job.stage}
            if term.field == "text":
                return all(str(value).lower() in job.name.lower() for value in term.values)
            return (text.get(term.field) in term.values) is not term.negated

        found = [job for job in self.list if all(holds(job, term) for term in wanted.terms)]
        if sort is Sort.FINISHED:
            found = [job for job in found if job.finished_at]
        keys: Callable[[JobRow], Any] = lambda job: key_of(job, sort)  # noqa: E731 - read once, below
        return sorted(found, key=keys, reverse=sort in {Sort.NEWEST, Sort.FINISHED})

    def jobs_shown(self) -> list[JobRow]:
        """As the list of jobs shows them at first."""
        return self._matching(Filter(), Sort.NEWEST)

    def jobs(
        self, wanted: Filter, sort: Sort, *, after: tuple[Any, ...] | None = None, backwards: bool = False,
        limit: int = 100,
    ) -> tuple[JobRow, ...]:  # fmt: skip
        self._reach("jobs")
        found = self._matching(wanted, sort)
        keys = [key_of(job, sort) for job in found]
        if backwards:
            end = keys.index(after) if after is not None else len(found)
            return tuple(found[max(0, end - limit) : end])
        begin = keys.index(after) + 1 if after is not None else 0
        return tuple(found[begin : begin + limit])

    def rows(self, job_uuids: tuple[UUID, ...]) -> tuple[JobRow, ...]:
        self._reach("rows")
        return tuple(job for job in self.list if job.job_uuid in set(job_uuids) - self.gone)

    def count(self, wanted: Filter) -> Count:
        self._reach("count")
        return Count(len(self._matching(wanted, Sort.NEWEST)))

    def job(self, job_uuid: UUID) -> JobDetail:
        self._reach("job")
        found = next((one for one in self.list if one.job_uuid == job_uuid), None)
        if found is None or job_uuid in self.gone:
            raise NotFound(f"There is no job {job_uuid}.")
        return detail(found)

    def job_log(self, job_uuid: UUID) -> tuple[LogLine, ...]:
        self._reach("job_log")
        return tuple(
            LogLine(f"2026-03-04T05:0{i}:00Z", "info", "", str(job_uuid), event, {"stage": "separate", "seconds": 1.5})
            for i, event in enumerate(("attempt_started", "stage_started", "stage_ended", HOSTILE))
        )

    def sketches(self, job_uuid: UUID) -> tuple[tuple[str, Sketch], ...]:
        self._reach("sketches")
        if next(one.state for one in self.list if one.job_uuid == job_uuid) != "succeeded":
            return ()
        peaks = tuple(abs(math.sin(i / 5)) for i in range(60))
        bands = tuple(-20.0 - abs(i - 8) for i in range(30))
        after = tuple(level - (20 if 10 < i < 18 else 1) for i, level in enumerate(bands))
        return (
            ("original", Sketch(187.0, 8_246_700, 44_100, peaks, bands)),
            ("instrumental", Sketch(187.0, 8_246_700, 44_100, tuple(0.7 * peak for peak in peaks), after)),
        )

    def art(self, job_uuid: UUID) -> Raster | None:
        self._reach("art")
        if next(one.state for one in self.list if one.job_uuid == job_uuid) != "succeeded":
            raise CorruptAudio("it is no picture")
        return Raster(4, 3, bytes(range(36)))

    def bundle(self, job_uuid: UUID) -> str:
        self._reach("bundle")
        return f"/srv/music/backups/ironclad-{str(job_uuid)[-8:]}.zip"

    def failures(self) -> tuple[FailureGroup, ...]:
        self._reach("failures")
        if self.kind in {"empty", "busy"}:
            return ()
        return (
            FailureGroup("E_ENGINE_DIED", "separate", "", 20, ago(9000), ago(60), "killed by signal 9", uuid(9_997)),
            FailureGroup("E_NOT_AUDIO", "validate", "", 7, ago(8000), ago(600), f"{HOSTILE} is text/html", uuid(9_991)),
            FailureGroup("E_UNEXPECTED", "organize", "deadbeef01234567", 1, ago(50), ago(50), "KeyError: 'x'", uuid(7)),
        )

    def members(self, key: tuple[str, str, str]) -> tuple[UUID, ...]:
        group = next(group for group in self.failures() if group.key == key)
        return tuple(uuid(50_000 + i) for i in range(group.jobs))

    def health(self) -> tuple[ComponentHealth, ...]:
        self._reach("health")
        if self.kind == "empty":
            return ()
        parts = [
            ComponentHealth("dispatch", "database", "ok", "answers in 2 ms", "", NOW.timestamp() - 7200),
            ComponentHealth("dispatch", "disk", "ok", "", "", NOW.timestamp() - 7200),
            ComponentHealth("worker-cpu", "engine host", "ok", "2 warm", "", NOW.timestamp() - 60),
        ]
        if self.kind == "failing":
            parts.append(
                ComponentHealth(
                    "prefect", "endpoint", "failed", "http://127.0.0.1:9645 does not answer: ConnectError",
                    "See logs/prefect.jsonl; `ironclad doctor` tells more.", NOW.timestamp() - 40,
                )
            )  # fmt: skip
        return tuple(parts)

    def letters(self) -> tuple[MessageView, ...]:
        self._reach("letters")
        if self.kind != "failing":
            return ()
        gone = {uuid_ for action, ids in self.settled for uuid_ in ids}
        found = (
            MessageView(uuid(70_002), "pager", "dead", "critical", "[CRITICAL] The disk is almost full",
                        "The disk is almost full: nothing new starts.\nWhat to do: Free some space.", 1, ago(4000), 12,
                        ago(300), "HTTP 503"),
            MessageView(uuid(70_001), "ops", "dead", "error", "[ERROR] 812 jobs failed", f"812 times {HOSTILE}", 812,
                        ago(9000), 1, ago(8999), "HTTP 401: no such token"),
        )  # fmt: skip
        return tuple(one for one in found if one.message_uuid not in gone)

    def engines(self) -> tuple[EngineView, ...]:
        data = {
            "title": "Stereo centre", "version": "1", "stems": ["vocals", "instrumental"], "devices": ["cpu"],
            "private_environment": False, "quality": "Fast, keeps everything that is not in the centre.",
            "channels": 2, "sample_rate": None, "exact_sum": True,
            "models": [{"name": "center", "title": "No weights", "bytes": 0, "licence": "MIT", "stored": None}],
            "parameters": [{"name": "width", "default": 0.5, "help": "How wide the centre is."}],
        }  # fmt: skip
        center = EngineView("center", True, "center", "loaded", "", data)
        broken = EngineView("spleeter", False, "spleeter", "broken", "ImportError: no module named tensorflow", {})
        weights = {"name": "good", "title": "Four stems", "bytes": 84_000_000, "licence": "MIT", "official": True}
        heavy = {
            **data, "title": "Demucs", "version": "4", "stems": ["drums", "bass", "other", "vocals"],
            "devices": ["cuda", "cpu"], "private_environment": True, "sample_rate": 44_100,
            "environment": {"python": "3.11.7", "devices": ["cpu"], "installed_at": "2026-03-01T00:00:00+00:00"},
            "models": [{**weights, "stored": True}, {**weights, "name": "better", "stored": False}],
        }  # fmt: skip
        demucs = EngineView("demucs", False, "demucs", "loaded", "", heavy)
        unbuilt = EngineView("late", False, "late", "loaded", "", {**heavy, "environment": None})
        return (center, demucs, unbuilt, broken) if self.kind == "failing" else (center, demucs)

    def check_engine(self, name: str) -> dict[str, Any]:
        self._reach("check_engine")
        if name == "late":
            raise EngineNotBuilt("late has no environment", engine=name)
        problems = [{"model": "good", "error": {"detail": "weights.th is damaged"}}] if name == "demucs" else []
        return {"engine": name, "python": "3.11.7", "devices": ["cpu"], "packages": {"numpy": "2.1"},
                "models": [], "problems": problems}  # fmt: skip

    def library(self) -> LibraryView:
        self._reach("library")
        if self.kind == "empty":
            return LibraryView((), ())
        files = tuple(
            Published(uuid(80_000 + i), uuid(9_995), "instrumental", f"{ARTISTS[i % 5]}/Blue (Instrumentals)/0{i}.flac",
                      30_000_000 + i, ago(100.0 * i))
            for i in range(8)
        )  # fmt: skip
        problems = (("error", "case-clash", "all", "a/B.flac and a/b.flac differ in letter case only"),)
        return LibraryView(files, problems if self.kind == "failing" else ())

    def lint(self) -> tuple[int, tuple[tuple[str, str, str, str], ...]]:
        self._reach("lint")
        return 8, (("warning", "no-cover", "plex", f"{HOSTILE} has no cover"),) if self.kind == "failing" else ()

    def prunable(self) -> tuple[Finding, ...]:
        self._reach("prunable")
        if self.kind != "failing":
            return ()
        return (Finding("work", f"work/{uuid(5)}", "older than 14 days", "", 52_000_000),)

    def orphans(self) -> tuple[Finding, ...]:
        self._reach("orphans")
        if self.kind != "failing":
            return ()
        return (Finding("no-job", f"work/{uuid(3)}", "No job is called so.", "ironclad orphans --fix moves it"),)

    def maintenance(self) -> MaintenanceView:
        self._reach("maintenance")
        sizes = (0,) * 4 if self.kind == "empty" else (40 * 10**9, 10**9, 90 * 10**9, 3 * 10**6)
        folders = tuple(
            FolderSize(name, f"/srv/music/{name}", size // 30_000_000, size, True)
            for name, size in zip(("archive", "work", "output", "error"), sizes, strict=True)
        )
        orphans = (str(uuid(3)), "lost+found") if self.kind == "failing" else ()
        return MaintenanceView(self.disk(), folders, orphans)

    def settings(self) -> tuple[SettingView, ...]:
        return (
            SettingView("data_dir", '"/srv/music"', "environment variable IRONCLAD_DATA_DIR", "The data folder."),
            SettingView("database_url", '"**********"', "secrets folder /run/secrets", "A PostgreSQL server."),
            SettingView("ingest.stability_seconds", "5.0", "default", "How long size and mtime must stay the same."),
            SettingView("pools.cpu.slots", "2", "file /etc/ironclad/ironclad.toml", "Jobs at a time."),
        )

    def log(self, service: str, level: str, job: str = "") -> tuple[LogLine, ...]:
        self._reach("log")
        if self.kind == "empty":
            return ()
        worse = ("warning", "error") if level == "warning" else ("debug", "info", "warning", "error")
        return tuple(
            LogLine(f"2026-03-04T05:05:{i:02}Z", level_, service or "dispatch", "", f"event_{i}", {"number": i})
            for i, level_ in enumerate(["info", "debug", "warning", "error"] * 10)
            if level_ in worse and not job
        )

    def log_services(self) -> tuple[str, ...]:
        return ("dispatch", "watch")

    def act(self, action: str, job_uuids: Sequence[UUID], **options: Any) -> Done:
        self._reach("act")
        self.acted.append((action, tuple(job_uuids), options))
        return Done(tuple(job_uuids))

    def settle(self, action: str, letters: Sequence[UUID]) -> int:
        self._reach("settle")
        self.settled.append((action, tuple(letters)))
        return len(letters)

    def pause(self, pool: str | None, *, paused: bool) -> None:
        self._reach("pause")
        self.paused.append((pool, paused))

    def set_slots(self, pool: str, number: int | None) -> int | None:
        self._reach("set_slots")
        before, self.slots[pool] = self.slots.get(pool), number
        return before


def detail(found: JobRow) -> JobDetail:
    """All about one job, as a database would tell."""
    artist, _, title = found.name.rpartition(" - ")
    error = None
    if found.error_code is not None:
        error = CATALOGUE[found.error_code]("killed by signal 9 while separating").to_dict()
    job = Job(
        job_uuid=found.job_uuid, user_id=found.user_id, trace_id="c0ffee" * 5 + "00", state=found.state,
        stage=found.stage, pool="cpu", source_path=f"/srv/music/input/ana/{found.name}.flac", source_path_raw=b"",
        source_size=31_000_000, source_mtime_ns=0, relative_path=f"{found.name}.flac", ingest_mode="move",
        archive_name="original.flac", engine="center", output_format="auto", stems=["instrumental"], artist=artist,
        title=title, album=found.album, duration_seconds=found.duration_seconds, progress=found.progress,
        held=found.held, cancel_requested=False, attempt=found.attempt, failures=1 if error else 0,
        error_code=found.error_code, error=error, created_at=found.created_at, started_at=found.started_at,
        finished_at=found.finished_at, queued_at=found.created_at, priority=0, engine_pool="cpu",
    )  # fmt: skip
    ended = None if found.state == "running" else "failed" if error else "done"
    begun = found.created_at
    stages = [
        StageRun(
            job_uuid=found.job_uuid, attempt=1, stage=stage,
            state="done" if ended or stage != "separate" else "running",
            progress=0.4 if not ended and stage == "separate" else 1.0, started_at=begun + timedelta(seconds=i),
            ended_at=None if not ended and stage == "separate" else begun + timedelta(seconds=i + 1 + i % 3),
        )
        for i, stage in enumerate(("validate", "categorize", "metadata", "stage", "separate"))
    ]  # fmt: skip
    if ended == "done":
        picture = {"file": "front.jpg", "mime": "image/jpeg", "width": 600, "height": 600, "description": HOSTILE}
        tags = {"schema_version": 1, "title": title, "artists": [artist, HOSTILE], "track_number": 4}
        problem = {"code": "truncated", "key": "comment", "detail": "cut at 10 kB"}
        reading = {"container": "flac", "tags": tags, "pictures": [picture], "problems": [problem]}
        stages[2].data = {"reading": reading, "origins": {"title": "file", "track_number": "file name"}}
    if ended == "failed":
        stages[-1].state, stages[-1].error_code = "failed", found.error_code
    events = [
        JobEvent(id=i, job_uuid=found.job_uuid, at=begun + timedelta(seconds=i), kind=kind, to_state=state, attempt=1,
                 stage="separate", actor="worker:w1", data={})
        for i, (kind, state) in enumerate([("received", "received"), ("queued", "queued"), ("claimed", "running"),
                                           ("stage_done", None), (found.state, found.state)])
    ]  # fmt: skip
    files = []
    if found.state == "succeeded":
        receipt = {"stem": "instrumental", "sample_rate": 44100, "true_peak_db": -1.02, "loudness_lufs": -14.3}
        files = [Artifact(artifact_uuid=uuid(1), job_uuid=found.job_uuid, attempt=1, kind="instrumental",
                          path=f"{artist}/Blue/01 {title}.flac", size=29_000_000, blake3="b", state="published",
                          receipt=receipt)]  # fmt: skip
    attempts = [Attempt(job_uuid=found.job_uuid, attempt=1, worker="w1", pool="cpu", first_stage="validate")]
    return JobDetail(job, attempts, stages, events, files)
