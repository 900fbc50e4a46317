"""How one root is watched: events where they arrive, else polling; and what is known about that."""

from __future__ import annotations

import enum
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from ironclad import log
from ironclad.ingest.feed import EventFeed, explain, remote_file_system
from ironclad.ingest.places import RootHealth, health

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ironclad.config import WatchRoot
    from ironclad.ingest.feed import Happened

_DEFICITS = 2  # scans in a row with more folders than watches; one alone may be a folder that was made just now


class How(enum.StrEnum):
    """How changes of a root are seen."""

    STARTING = "starting"
    EVENTS = "events"
    POLLING = "polling"
    UNKNOWN = "unknown"
    """Not at all: the root cannot be reached. Nothing is concluded from that."""


@dataclass(frozen=True, slots=True)
class RootStatus:
    """A root as the watcher sees it; written to the database when it changes, for `ironclad why` and `doctor`."""

    path: str
    how: How = How.STARTING
    reason: str = ""
    device: int | None = None
    """The device it was on when something was last seen in it."""
    lost: int = 0
    """How often the source of events complained that some were lost; each time the root was listed again."""

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {**asdict(self), "how": self.how.value}


class RootView:
    """The source of events of one root, kept attached to what is mounted there now.

    Args:
        root: the root's settings.
        folder: its path, symbolic links resolved.
        device: the device it was on when something was last seen in it, if known from an earlier run.
        tell: called for each event.
        lost: called when events may have been lost; the root must be listed again.
    """

    def __init__(
        self, root: WatchRoot, folder: Path, device: int | None, tell: Callable[[Happened], None],
        lost: Callable[[], None],
    ) -> None:  # fmt: skip
        self._root = root
        self._folder = folder
        self._tell = tell
        self._lost = lost
        self._feed: EventFeed | None = None
        self._identity: tuple[int | None, int | None] | None = None
        self._deficits = 0
        self.status = RootStatus(str(root.path), device=device)

    def check(self) -> RootHealth:
        """Whether the root can be reached; attaches to it (again) when it has become another one."""
        found = health(self._folder, self.status.device)
        if not found.known:
            self.detach()
            self._set(How.UNKNOWN, found.sentence)
        elif self._identity != (found.device, found.inode):
            self.detach()
            self._attach()
            self._identity = (found.device, found.inode)
        return found

    @property
    def moved_on(self) -> bool:
        """Whether another folder (or none) is where the watched one was."""
        found = health(self._folder, self.status.device)
        return not found.known or self._identity != (found.device, found.inode)

    def seen(self, found: RootHealth, folders: int, *, empty: bool) -> bool:
        """A scan is done. Returns False if it should be repeated soon, because a folder may be without a watch."""
        if not empty and found.device != self.status.device:
            self.status = replace(self.status, device=found.device)
        watched = self._feed.watched_folders() if self._feed is not None else None
        if watched is None or watched >= folders or self.status.how is not How.EVENTS:
            self._deficits = 0
            return True
        self._deficits += 1
        if self._deficits < _DEFICITS:
            return False
        self.poll(f"only {watched} of {folders} folders could be watched: raise fs.inotify.max_user_watches")
        return True

    def poll(self, reason: str) -> None:
        """Events cannot be relied on: list the root regularly from now on. Events that do come are still used."""
        self._set(How.POLLING, reason)

    def detach(self) -> None:
        """Stop listening."""
        feed, self._feed = self._feed, None
        self._identity = None
        if feed is not None:
            feed.stop()

    def _attach(self) -> None:
        remote = remote_file_system(self._folder) if self._root.watch == "auto" else None
        if self._root.watch == "polling":
            return self._set(How.POLLING, "the setting says so")
        if remote is not None:
            return self._set(How.POLLING, f"the file system is {remote}, where changes by others give no events")
        feed = EventFeed(self._folder, self._tell, self._events_lost)
        try:
            feed.start()
        except OSError as exc:
            return self._set(How.POLLING, explain(exc))
        problem = feed.probe() if self._root.watch == "auto" else None
        if problem is not None:
            feed.stop()
            return self._set(How.POLLING, problem)
        self._feed = feed
        self._deficits = 0
        return self._set(How.EVENTS, "")

    def _events_lost(self, message: str) -> None:
        self.status = replace(self.status, lost=self.status.lost + 1)
        log.get(root=str(self._root.path)).warning("watch_events_lost", detail=message)
        self._lost()

    def _set(self, how: How, reason: str) -> None:
        if (self.status.how, self.status.reason) != (how, reason):
            self.status = replace(self.status, how=how, reason=reason)
            logger = log.get(root=str(self._root.path), how=how.value, reason=reason)
            (logger.info if how is How.EVENTS or self._root.watch == "polling" else logger.warning)("watch_root")
