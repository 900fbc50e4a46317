"""A running installation: the query layer, the services' endpoints and the logs, behind one face."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ironclad.db import schema
from ironclad.errors import BadRequest, IroncladError, Paused
from ironclad.jobs import control, failures, listing, overview, query, slots
from ironclad.jobs.feed import EVENT, PROGRESS, Feed
from ironclad.notify import query as notifications
from ironclad.ops import looking
from ironclad_tui import local
from ironclad_tui.source import Done, Finding, LibraryView, MaintenanceView

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterable, Sequence
    from uuid import UUID

    from sqlmodel import Session

    from ironclad.audio.sketch import Sketch
    from ironclad.config import Loaded
    from ironclad.db.session import Database
    from ironclad.db.tables import Job
    from ironclad.jobs.feed import Notice
    from ironclad.jobs.search import Filter
    from ironclad.metadata.raster import Raster
    from ironclad_tui.source import EngineView, SettingView

_TICK_SECONDS: Final = 1.0
_PACE_SECONDS: Final = 30.0
_LIBRARY_FILES: Final = 500
_GROUP_PAGE: Final = 500
_LETTERS: Final = 200
_ART_POINTS: Final = (40, 40)
_SILENT: Final = ("receipt:", "cover:")
"""Begin the kinds of what is published beside a result and is no sound."""


class LiveSource:
    """An installation as it is now.

    Args:
        loaded: its settings.
        database: its database.
        actor: who acts, for the audit trail.
        read_only: refuse every action.
        clock: now, in UTC.
    """

    def __init__(
        self, loaded: Loaded, database: Database, actor: str, *, read_only: bool = False,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:  # fmt: skip
        self._loaded = loaded
        self._settings = loaded.settings
        self._layout = loaded.settings.layout
        self._database = database
        self._actor = actor
        self._read_only = read_only
        self._clock = clock
        self._paces: tuple[datetime, dict[str, float]] | None = None
        self._checked = False

    @property
    def label(self) -> str:
        """The data folder."""
        return str(self._layout.root)

    @property
    def root(self) -> str:
        """The data folder."""
        return str(self._layout.root)

    @property
    def read_only(self) -> bool:
        """As it was opened."""
        return self._read_only

    def now(self) -> datetime:
        """The clock."""
        return self._clock()

    def listen(self, stopping: threading.Event) -> Iterable[Notice | None]:
        """Events and progress."""
        return Feed(self._database.dsn, (EVENT, PROGRESS)).listen(stopping, tick_seconds=_TICK_SECONDS)

    # --- looking ---

    def glance(self) -> overview.Glance:
        """The whole installation; the schema is checked once. Raises `SchemaMismatch`."""
        if not self._checked:
            schema.check(self._database)
            self._checked = True
        with self._database.session() as session:
            return overview.glance(session, paces=self._pace(session))

    def _pace(self, session: Session) -> dict[str, float]:
        now = self._clock()
        if self._paces is None or (now - self._paces[0]).total_seconds() > _PACE_SECONDS:
            self._paces = (now, overview.pace(session))
        return self._paces[1]

    def disk(self) -> looking.DiskView:
        """The disk under the data folder."""
        return looking.disk(self._layout.root, self._settings.disk.min_free_bytes)

    def jobs(
        self, wanted: Filter, sort: listing.Sort, *, after: tuple[Any, ...] | None = None, backwards: bool = False,
        limit: int = 100,
    ) -> tuple[listing.JobRow, ...]:  # fmt: skip
        """A page."""
        with self._database.session() as session:
            return listing.page(session, wanted, sort, after=after, backwards=backwards, limit=limit)

    def rows(self, job_uuids: tuple[UUID, ...]) -> tuple[listing.JobRow, ...]:
        """Rows by id."""
        with self._database.session() as session:
            return listing.by_id(session, job_uuids)

    def count(self, wanted: Filter) -> listing.Count:
        """How many match."""
        with self._database.session() as session:
            return listing.count(session, wanted)

    def job(self, job_uuid: UUID) -> query.JobDetail:
        """One job. Raises `NotFound`."""
        with self._database.session() as session:
            return query.detail(session, job_uuid)

    def job_log(self, job_uuid: UUID) -> tuple[looking.LogLine, ...]:
        """The end of its log."""
        return looking.tail(self._layout.job_log(job_uuid))

    def sketches(self, job_uuid: UUID) -> tuple[tuple[str, Sketch], ...]:
        """Original and library files. Raises what the decoder raises."""
        from ironclad.audio.sketch import sketch  # noqa: PLC0415 - NumPy: only when somebody looks
        from ironclad.stages import filing  # noqa: PLC0415 - likewise
        from ironclad.stages.validate import limits  # noqa: PLC0415 - likewise

        with self._database.session() as session:
            detail = query.detail(session, job_uuid, events=0)
        original = filing.locate(self._layout, detail.job)
        files = [] if original is None else [("original", original)]
        files += [
            (file.kind, self._layout.output / file.path)
            for file in detail.artifacts
            if file.state == "published" and not file.kind.startswith(_SILENT)
        ]
        wanted = limits(self._settings.limits)
        there = [(name, path) for name, path in files if path.is_file()]
        return tuple((name, sketch(path, self._layout.work, wanted)) for name, path in there)

    def art(self, job_uuid: UUID) -> Raster | None:
        """The front cover: as the metadata stage keeps it, else as it was published. Raises what the decoder raises."""
        with self._database.session() as session:
            detail = query.detail(session, job_uuid, events=0)
        path = local.cover(self._layout, detail)
        if path is None:
            return None
        from ironclad.metadata.raster import raster  # noqa: PLC0415 - only when somebody looks

        return raster(path, *_ART_POINTS)

    def bundle(self, job_uuid: UUID) -> str:
        """In the folder that the cockpit was started in, or else in the data folder's backups/."""
        self._check_writable()
        from ironclad.ops import bundle  # noqa: PLC0415 - reads packages' versions: only when asked for

        path = local.free_path(f"ironclad-{str(job_uuid)[-8:]}", ".zip", (Path.cwd(), self._layout.backups))
        with self._database.session() as session:
            bundle.write(session, self._loaded, job_uuid, path, with_audio=False)
        return str(path)

    def failures(self) -> tuple[failures.FailureGroup, ...]:
        """By cause."""
        with self._database.session() as session:
            return failures.groups(session)

    def members(self, key: tuple[str, str, str]) -> tuple[UUID, ...]:
        """All jobs of a group."""
        found: list[UUID] = []
        with self._database.session() as session:
            while chunk := failures.members(session, key, after=found[-1] if found else None, limit=_GROUP_PAGE):
                found += chunk
        return tuple(found)

    def health(self) -> tuple[looking.ComponentHealth, ...]:
        """By the services' endpoints."""
        return looking.health(self._layout.run)

    def letters(self) -> tuple[notifications.MessageView, ...]:
        """Dead letters."""
        with self._database.session() as session:
            return tuple(notifications.messages(session, states=("dead",), limit=_LETTERS))

    def engines(self) -> tuple[EngineView, ...]:
        """Installed ones."""
        return local.engines(self._settings)

    def check_engine(self, name: str) -> dict[str, Any]:
        """By importing it where it runs, and reading its models."""
        from ironclad.engines.checking import check  # noqa: PLC0415 - imports every plugin

        return check(self._layout, name)

    def library(self) -> LibraryView:
        """The last files."""
        with self._database.session() as session:
            files = listing.published(session, limit=_LIBRARY_FILES)
        return LibraryView(files, local.problems(files))

    def lint(self) -> tuple[int, tuple[tuple[str, str, str, str], ...]]:
        """With the tags of every file."""
        from ironclad.ops.library.survey import survey  # noqa: PLC0415 - reads files: only when asked for

        files, found = survey(self._layout.output)
        return files, tuple(
            (one.severity.value, one.rule, one.server, f"{one.message} ({', '.join(map(str, one.paths))})")
            for one in found
        )

    def maintenance(self) -> MaintenanceView:
        """Disk, folders, folders of no job."""
        names = looking.job_folders(self._layout)
        with self._database.session() as session:
            known = listing.existing(session, names)
        return MaintenanceView(
            self.disk(), looking.folders(self._layout), tuple(name for name in names if name not in known)
        )

    def prunable(self) -> tuple[Finding, ...]:
        """By the rules of `prune.*`; nothing is deleted."""
        from ironclad.ops import prune  # noqa: PLC0415 - only when asked for

        return tuple(
            Finding(one.kind, local.below(self._layout.root, one.path), one.reason, "", one.bytes)
            for one in prune.plan(self._database, self._settings)
        )

    def orphans(self) -> tuple[Finding, ...]:
        """As `ironclad orphans` finds them; nothing is moved."""
        from ironclad.ops import orphans  # noqa: PLC0415 - only when asked for

        return tuple(
            Finding(one.kind.value, local.below(self._layout.root, one.path), one.reason, one.todo)
            for one in orphans.find(self._database, self._settings)
        )

    def settings(self) -> tuple[SettingView, ...]:
        """In force."""
        return local.settings(self._loaded)

    def log(self, service: str, level: str, job: str = "") -> tuple[looking.LogLine, ...]:
        """The end of the logs."""
        return looking.log(self._layout, service=service, level=level, job=job)

    def log_services(self) -> tuple[str, ...]:
        """Those with a log."""
        return looking.log_services(self._layout)

    # --- acting ---

    def act(self, action: str, job_uuids: Sequence[UUID], **options: Any) -> Done:
        """Each job in its own transaction, so that one that refuses does not stop the others."""
        self._check_writable()
        call = self._action(action, options)
        done: list[UUID] = []
        failed: list[tuple[UUID, IroncladError]] = []
        for job_uuid in job_uuids:
            try:
                with self._database.session() as session:
                    call(session, job_uuid)
            except IroncladError as exc:
                if len(job_uuids) == 1:
                    raise
                failed.append((job_uuid, exc))
            else:
                done.append(job_uuid)
        return Done(tuple(done), tuple(failed))

    def settle(self, action: str, letters: Sequence[UUID]) -> int:
        """As `ironclad notify dead resend` and `drop`."""
        self._check_writable()
        from ironclad.notify import control as delivery  # noqa: PLC0415 - the notifiers: only when somebody acts

        call = {"resend": delivery.resend, "drop": delivery.drop}[action]
        with self._database.session() as session:
            return call(session, letters)

    def pause(self, pool: str | None, *, paused: bool) -> None:
        """A pool or the pipeline."""
        self._check_writable()
        with self._database.session() as session:
            control.pause(session, pool, paused=paused, actor=self._actor)

    def set_slots(self, pool: str, number: int | None) -> int | None:
        """While everything runs."""
        self._check_writable()
        with self._database.session() as session:
            before = slots.shown(session, pool)
            slots.change(session, pool, number, actor=self._actor)
        return before.number if before.changed else None

    def _check_writable(self) -> None:
        if self._read_only:
            raise Paused("This is the read-only mode; start `ironclad tui` without --read-only to act.")

    def _action(self, action: str, options: dict[str, Any]) -> Callable[[Session, UUID], Job]:
        actor, pools = self._actor, frozenset(self._settings.pools)
        if action == "replay":
            options = self._replay_options(options)
        actions: dict[str, Callable[[Session, UUID], Job]] = {
            "retry": lambda session, job: control.retry(session, job, actor=actor, pools=pools),
            "cancel": lambda session, job: control.cancel(session, job, actor=actor),
            "hold": lambda session, job: control.hold(session, job, held=True, actor=actor),
            "release": lambda session, job: control.hold(session, job, held=False, actor=actor),
            "replay": lambda session, job: control.replay(session, job, actor=actor, pools=pools, **options),
        }
        if action not in actions:
            raise BadRequest(f"There is no action {action}.")
        return actions[action]

    def _replay_options(self, options: dict[str, Any]) -> dict[str, Any]:
        """With another engine, its pool and its own default parameters."""
        engine = options.get("engine")
        if engine is None:
            return {"stage": options["stage"]}
        from ironclad.engines import choice  # noqa: PLC0415 - imports every plugin

        chosen = choice.choose(self._settings, engine=engine)
        return {
            "stage": options["stage"], "engine": chosen.engine, "engine_pool": chosen.pool,
            "parameters": chosen.parameters,
        }  # fmt: skip
