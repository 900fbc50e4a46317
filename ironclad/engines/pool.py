"""Warm hosts of one process: the second recording finds its model loaded."""

from __future__ import annotations

import contextlib
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ironclad.engines.client import EngineHost
    from ironclad.engines.contract import EngineSpec

_POLL_SECONDS = 0.2

Key = tuple[str, str, str]
"""Engine, model, device."""


@dataclass(slots=True)
class _Slot:
    """A host and whether somebody uses it; `host` is None while it is being started."""

    host: EngineHost | None = None
    busy: bool = True
    idle_since: float = 0.0


class HostPool:
    """At most `limit` hosts, one for each (engine, model, device); a host idle for `idle_seconds` is ended.

    `make` builds (and does not start) the host for an engine, model and device. Safe for threads. Not for use across a
    fork: hosts belong to the process that started them. Close it, or use it as a context manager.
    """

    def __init__(
        self, make: Callable[[EngineSpec, str, str], EngineHost], *, limit: int = 1, idle_seconds: float = 600.0
    ) -> None:
        if limit < 1:
            raise ValueError("a pool needs room for one host")
        self._make = make
        self._limit = limit
        self._idle_seconds = idle_seconds
        self._slots: dict[Key, _Slot] = {}
        self._changed = threading.Condition()
        self._closed = False
        self._reaper: threading.Thread | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __len__(self) -> int:
        return len(self._slots)

    @contextlib.contextmanager
    def lease(
        self, spec: EngineSpec, *, model: str = "", device: str = "cpu", check: Callable[[], None] | None = None
    ) -> Iterator[EngineHost]:
        """The warm host of an engine, model and device, for the caller alone until the context ends.

        Waits for it, or for room, as long as needed; `check` is polled meanwhile and ends the wait by raising. Raises
        what `EngineHost.start` raises.
        """
        key = (spec.name, spec.model(model).name, device)
        slot, evicted = self._take(key, check)
        host = slot.host
        try:
            if evicted is not None:
                evicted.close()
            if host is None:
                host = self._make(spec, key[1], device)
                host.start(check)
                self._enter(slot, host)
            yield host
        finally:
            self._give_back(key, slot, host)

    def close(self) -> None:
        """End every host. A lease that is out loses its host."""
        with self._changed:
            self._closed = True
            hosts = [slot.host for slot in self._slots.values() if slot.host is not None]
            self._slots.clear()
            self._changed.notify_all()
        for host in hosts:
            host.close()
        if self._reaper is not None:
            self._reaper.join()

    def _take(self, key: Key, check: Callable[[], None] | None) -> tuple[_Slot, EngineHost | None]:
        """The slot of a key, now ours, and the idle host that had to make room for it."""
        with self._changed:
            while True:
                if self._closed:
                    raise RuntimeError("the pool is closed")
                slot = self._slots.get(key)
                if slot is not None and not slot.busy:
                    slot.busy = True
                    if slot.host is None or slot.host.alive:
                        return slot, None
                    dead, slot.host = slot.host, None
                    return slot, dead
                if slot is None and len(self._slots) < self._limit:
                    return self._slots.setdefault(key, _Slot()), None
                if slot is None and (oldest := self._oldest_idle()) is not None:
                    evicted = self._slots.pop(oldest).host
                    return self._slots.setdefault(key, _Slot()), evicted
                self._changed.wait(_POLL_SECONDS)
                if check is not None:
                    check()

    def _enter(self, slot: _Slot, host: EngineHost) -> None:
        """Let `close` know of a host that was just started."""
        with self._changed:
            if self._closed:
                raise RuntimeError("the pool is closed")
            slot.host = host

    def _give_back(self, key: Key, slot: _Slot, host: EngineHost | None) -> None:
        usable = host is not None and host.alive
        with self._changed:
            ours = self._slots.get(key) is slot
            if usable and ours:
                slot.host, slot.busy, slot.idle_since = host, False, time.monotonic()
                self._start_reaper()
            elif ours:
                del self._slots[key]
            self._changed.notify_all()
        if host is not None and not (usable and ours):
            host.close()

    def _oldest_idle(self) -> Key | None:
        idle = {key: slot.idle_since for key, slot in self._slots.items() if not slot.busy}
        return min(idle, key=idle.__getitem__, default=None)

    def _start_reaper(self) -> None:
        if self._reaper is None:
            self._reaper = threading.Thread(target=self._reap, name="engine-host-reaper", daemon=True)
            self._reaper.start()

    def _reap(self) -> None:
        """End hosts that nobody has used for long, until the pool is closed."""
        while True:
            with self._changed:
                if self._closed:
                    return
                now = time.monotonic()
                oldest = self._oldest_idle()
                due = self._slots[oldest].idle_since + self._idle_seconds if oldest else now + self._idle_seconds
                if oldest is None or due > now:
                    self._changed.wait(due - now)
                    continue
                host = self._slots.pop(oldest).host
                self._changed.notify_all()
            if host is not None:
                host.close()
