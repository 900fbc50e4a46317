"""One watched root: a thread that sees files come, waits until each is complete, and hands it to the claim."""

from __future__ import annotations

import os
import queue
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ironclad import log
from ironclad.errors import DatabaseUnavailable, UnsafePath
from ironclad.ingest import observations
from ironclad.ingest.examine import STORAGE_SECONDS, examine
from ironclad.ingest.feed import Happened
from ironclad.ingest.intake import Candidate, Intake
from ironclad.ingest.look import Sight, look
from ironclad.ingest.places import absolute, foreign_folders, split
from ironclad.ingest.register import Register
from ironclad.ingest.rules import Rules
from ironclad.ingest.scan import scan
from ironclad.ingest.stability import Print, quiet_before
from ironclad.ingest.tidy import Tidy
from ironclad.ingest.watch import How, RootStatus, RootView

if TYPE_CHECKING:
    from collections.abc import Callable

    from ironclad.config import Settings, WatchRoot
    from ironclad.db.session import Database
    from ironclad.ingest.claim import Outcome
    from ironclad.ingest.rules import Rule

_FLUSH_SECONDS = 0.5
_HEALTH_SECONDS = 10.0
_BATCH_SECONDS = 0.05  # files that come due within this time are received in one transaction
_DATABASE_SECONDS = 2.0
_AGAIN_SECONDS = 1.0
_IN_FLIGHT_SECONDS = 10.0  # a younger file may have an event that is on its way
_POLL_SHARE = 20.0  # listing a polled root takes at most 1/20 of the time
_EVENTS_AT_ONCE = 5000


@dataclass(frozen=True, slots=True)
class _Done:
    path: str
    found: Print
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class _Order:
    """From another thread: `stop`, or `scan` (list the root now)."""

    kind: str


class RootWatch:
    """Watches one root in a thread of its own, so that a hanging mount stops nothing but itself.

    A file that was there at the start waits for the quiet time like any other, also when an earlier run had observed it
    already: nobody looked in between.

    Args:
        database: where observations and jobs are.
        settings: the installation.
        root: the root.
        intake: where complete files go.
        unfinished: called when a claim did not come to its end and has to be tried again.
        skipped: called when a file turned out to have been there before.
    """

    def __init__(
        self, database: Database, settings: Settings, root: WatchRoot, intake: Intake, *,
        unfinished: Callable[[], None], skipped: Callable[[], None],
    ) -> None:  # fmt: skip
        self.name = str(absolute(root.path))
        self.listed = threading.Event()
        """Set when the root was listed once, or is known to be out of reach."""
        self._database = database
        self._settings = settings
        self._root = root
        self._intake = intake
        self._unfinished = unfinished
        self._skipped = skipped
        self._folder = absolute(root.path).resolve()
        self._rules = Rules(settings.ingest)
        self._foreign = foreign_folders(settings, root)
        self._register = Register(self.name, settings.ingest.stability_seconds, keeps=root.mode != "move")
        self._tidy = Tidy(self._folder, keep_first=root.user is None)
        self._queue: queue.SimpleQueue[Happened | _Done | _Order] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=f"watch {self.name}", daemon=True)
        self._stopping = False
        self._view: RootView | None = None
        self._told: RootStatus | None = None
        self._scan_at = 0.0
        self._scanned_at: float | None = None
        self._refused: dict[str, tuple[os.stat_result, Rule]] = {}
        self._settling = True  # until a scan after attaching: what it finds need not have given events
        self._health_at = self._flush_at = self._take_at = self._database_at = 0.0

    # --- for other threads -----------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Ask it to end; `join` waits."""
        self._queue.put(_Order("stop"))

    def join(self, seconds: float) -> None:
        """Wait for the end, at most so long: a file system that hangs may hold the thread."""
        self._thread.join(seconds)

    def rescan(self) -> None:
        """List the root again now: events may have been lost, or claims have ended elsewhere."""
        self._queue.put(_Order("scan"))

    @property
    def status(self) -> RootStatus:
        """How the root is watched now."""
        view = self._view
        return RootStatus(self.name) if view is None else view.status

    # --- the loop --------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while not self._stopping:
                try:
                    self._step()
                except DatabaseUnavailable as exc:
                    self._database_at = time.monotonic() + _DATABASE_SECONDS
                    log.get(root=self.name).warning("watch_database_unavailable", error=str(exc))
                except Exception:  # noqa: BLE001 - the watcher of a root never dies; the next step may succeed
                    log.get(root=self.name).exception("watch_step_failed")
                    self._pause(_AGAIN_SECONDS)
        finally:
            if self._view is not None:
                self._view.detach()

    def _step(self) -> None:
        """Wait for the next event or time, and do what is due."""
        if self._view is None:
            self._open()
        self._handle(self._wait())
        now = time.monotonic()
        if self._stopping:
            self._flush(now)
            return
        if now >= self._health_at:
            self._health_at = now + _HEALTH_SECONDS
            if self._attached().moved_on:
                self._scan_at = min(self._scan_at, now)
        if now >= self._scan_at:
            self._scan(now)
        if now >= self._take_at and now >= self._database_at:
            self._take(time.monotonic())
        if now >= self._flush_at and now >= self._database_at:
            self._flush(time.monotonic())

    def _open(self) -> None:
        """Read what is known of this root; waits until the database answers."""
        self._pause(self._database_at - time.monotonic())
        with self._database.session() as session:
            self._register.load(session)
            device = observations.root_state(session, self.name).get("device")
        self._view = RootView(self._root, self._folder, device, self._queue.put, self.rescan)

    def _attached(self) -> RootView:
        if self._view is None:
            raise RuntimeError("the root was not opened")
        return self._view

    def _next(self) -> float:
        times = [self._scan_at, self._health_at]
        due = self._register.tracker.next_due()
        if due is not None or self._refused:
            times.append(max(0.0 if self._refused else due or 0.0, self._take_at, self._database_at))
        if self._register.to_write or self._told != self.status:
            times.append(max(self._flush_at, self._database_at))
        return min(times)

    def _wait(self) -> list[Happened | _Done | _Order]:
        signals: list[Happened | _Done | _Order] = []
        try:
            signals.append(self._queue.get(timeout=max(0.0, self._next() - time.monotonic())))
            while len(signals) < _EVENTS_AT_ONCE:
                signals.append(self._queue.get_nowait())
        except queue.Empty:
            pass
        return signals

    def _pause(self, seconds: float) -> None:
        """Wait, but not for a stop; events that come meanwhile are kept."""
        deadline = time.monotonic() + seconds
        kept: list[Happened | _Done | _Order] = []
        while not self._stopping and (left := deadline - time.monotonic()) > 0:
            try:
                signal = self._queue.get(timeout=left)
            except queue.Empty:
                break
            self._stopping = signal == _Order("stop")
            kept.append(signal)
        for signal in kept:
            self._queue.put(signal)

    # --- what happens ----------------------------------------------------------------------------------------------

    def _handle(self, signals: list[Happened | _Done | _Order]) -> None:
        now = time.monotonic()
        for signal in signals:
            if isinstance(signal, _Order):
                self._stopping = self._stopping or signal.kind == "stop"
                if signal.kind == "scan":
                    self._scan_at, self._settling = now, True
            elif isinstance(signal, _Done):
                self._settled(signal, now)
            elif signal.kind == "folder":
                self._list_folder(signal.path, now)
            elif signal.kind == "folder_gone":
                inside = f"{signal.path}/"
                for path in self._register.known_paths:
                    if path.startswith(inside):
                        self._gone_if_missing(path)
            elif signal.kind == "gone":
                self._gone_if_missing(signal.path)
            else:
                self._look_at(signal, now)

    def _look_at(self, event: Happened, now: float) -> None:
        """A file came, changed or got a new name."""
        path = event.path
        if event.old is not None:
            self._gone_unless_renamed(event.old, path)
        if self._is_foreign(path) or self._rules.path(path) is not None:
            return
        try:
            status = (self._folder / path).lstat()
        except OSError:
            self._gone_if_missing(path)
            return
        rule = self._rules.entry(self._folder, self._folder / path, status)
        if rule is not None:
            self._refuse({path: (status, rule)})
        elif event.kind == "renamed":
            finished = event.old is None or self._rules.file(event.old) is not None
            self._register.renamed(path, status, now, old=event.old, finished=finished)
        else:
            self._register.observe(path, status, now, stir=True)

    def _gone_unless_renamed(self, old: str, path: str) -> None:
        if self._is_foreign(path) or self._rules.path(path) is not None:
            self._gone_if_missing(old)  # it has a name now that is not taken

    def _gone_if_missing(self, path: str) -> None:
        if self._register.knows(path) and not os.path.lexists(self._folder / path) and not self._attached().moved_on:
            self._register.gone(path)

    def _is_foreign(self, path: str) -> bool:
        return any(path == folder or path.startswith(f"{folder}/") for folder in self._foreign)

    def _settled(self, done: _Done, now: float) -> None:
        outcome = done.outcome
        self._register.settled(done.path, done.found, outcome)
        if outcome.changed:
            self._look_at(Happened("changed", done.path), now)
        elif outcome.state == "received":
            self._unfinished()
        elif outcome.state == "skipped":
            self._skipped()
        if self._root.mode == "move" and outcome.error is None:
            self._tidy.emptied(done.path)

    # --- listing ---------------------------------------------------------------------------------------------------

    def _list_folder(self, folder: str, now: float) -> None:
        """A folder came: its files may have come before anybody listened."""
        parts = folder.split("/")
        above = ["/".join(parts[: count + 1]) for count in range(len(parts))]
        if self._is_foreign(folder) or any(self._rules.folder(one) is not None for one in above):
            return
        listing = scan(self._folder, self._rules, self._foreign, folder)
        for path, status in listing.files.items():
            self._register.observe(path, status, now)
        self._refuse(listing.refused)

    def _scan(self, now: float) -> None:
        """List the whole root."""
        view = self._attached()
        self._settling = self._settling or view.moved_on
        found = view.check()
        ingest = self._settings.ingest
        if not found.known:
            self._scan_at = now + ingest.poll_seconds
            self.listed.set()
            return
        listing = scan(self._folder, self._rules, self._foreign)
        unannounced = 0
        wall, seen = time.time_ns(), time.monotonic()  # in this order: a pause between them makes a wait longer
        # From where the last listing began to where this one ended: what came right behind that one is seen here, too.
        unseen = 0.0 if self._scanned_at is None else seen - self._scanned_at
        in_flight = min(_IN_FLIGHT_SECONDS, ingest.rescan_seconds / 2) * 1e9
        for path, status in listing.files.items():
            if not self._register.knows(path) and wall - status.st_ctime_ns > in_flight:
                unannounced += 1
            quiet = quiet_before(status.st_mtime_ns, wall, unseen, ingest.stability_seconds)
            self._register.observe(path, status, seen, quiet=quiet)
        self._refuse(listing.refused)
        for path in self._register.known_paths:
            if path not in listing.files and path not in listing.refused and not listing.hides(path):
                self._gone_if_missing(path)
        self._retry_unreadable(now)
        self._tidy.run()
        if unannounced and view.status.how is How.EVENTS and not self._settling:
            view.poll(f"{unannounced} files had come without an event")
        repeat = not view.seen(found, listing.folders, empty=listing.empty)
        self._settling = repeat
        self._scanned_at = now
        took = time.monotonic() - now
        pause = (
            max(ingest.poll_seconds, took * _POLL_SHARE) if view.status.how is How.POLLING else ingest.rescan_seconds
        )
        self._scan_at = now + (_AGAIN_SECONDS if repeat else pause)
        self.listed.set()

    def _retry_unreadable(self, now: float) -> None:
        """What could not be read is a new file once it can."""
        for path in self._register.unreadable:
            file = self._folder / path
            may_move = self._root.mode != "move" or os.access(file.parent, os.W_OK, effective_ids=True)
            if may_move and look(file).sight is not Sight.FAILED:
                self._register.forget_job(path)
                self._look_at(Happened("changed", path), now)

    # --- taking ----------------------------------------------------------------------------------------------------

    def _take(self, now: float) -> None:
        """Hand over what has become complete, and what is refused."""
        self._take_at = now + _BATCH_SECONDS
        refused, self._refused = self._refused, {}
        with self._intake.first():
            candidates = [self._refusal(path, status, rule) for path, (status, rule) in refused.items()]
            away = self._attached().moved_on
            for path in self._register.tracker.take_due(now):
                found = examine(
                    path, now, settings=self._settings, root=self._root, folder=self._folder, register=self._register,
                    away=away,
                )  # fmt: skip
                if found is not None:
                    candidates.append(found)
            self._receive(candidates)

    def _refusal(self, path: str, status: os.stat_result, rule: Rule) -> Candidate:
        file = self._folder / path
        error = (rule.refuses or UnsafePath)(f"{file}: {rule.sentence}", path=file)
        return Candidate(split(self._root, path), status, error)

    def _refuse(self, refused: dict[str, tuple[os.stat_result, Rule]]) -> None:
        """What the rules refuse becomes a failed job, once."""
        for path, (status, rule) in refused.items():
            if rule.refuses is not None and not self._register.is_job(path, status):
                self._refused[path] = (status, rule)

    def _receive(self, candidates: list[Candidate]) -> None:
        if not candidates:
            return
        try:
            received = self._intake.receive(self.name, candidates)
        except DatabaseUnavailable:
            retry = time.monotonic() + _DATABASE_SECONDS
            for candidate in candidates:
                self._register.hold(candidate.path, retry, "the database does not answer")
            raise
        for one in received:
            path, found = one.candidate.path, Print.of(one.candidate.status)
            if one.job_uuid is None:
                self._register.hold(path, time.monotonic() + STORAGE_SECONDS, one.problem)
                continue
            self._register.handed(path, found)
            if one.candidate.error is not None:
                self._register.refused(path, found, one.job_uuid, one.candidate.error.code)
            else:
                self._intake.finish(one.job_uuid, self._teller(path, found))

    def _teller(self, path: str, found: Print) -> Callable[[Outcome], None]:
        return lambda outcome: self._queue.put(_Done(path, found, outcome))

    # --- writing down ----------------------------------------------------------------------------------------------

    def _flush(self, now: float) -> None:
        status = self.status
        if not self._register.to_write and self._told == status:
            return
        self._flush_at = now + _FLUSH_SECONDS
        with self._database.session() as session:
            self._register.flush(session, now)
            if self._told != status:
                observations.set_root_state(session, self.name, status.to_dict())
        self._register.written()
        self._told = status
