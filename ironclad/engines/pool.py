"""Warm hosts of one process: the second recording finds its model loaded."""

from __future__ import annotations

import contextlib
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, Self

from ironclad.engines.client import Host
from ironclad.engines.memory import Machine, resident
from ironclad.errors import IroncladError, OutOfMemory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ironclad.engines.plan import HostPlan

_POLL_SECONDS = 0.2


class Memory(Protocol):
    """What the pool asks about memory (`Machine`)."""

    def total(self) -> int:
        """Bytes that could be had at most; 0: not known."""
        ...

    def available(self) -> int:
        """Bytes that can be had now; 0: not known."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolLimits:
    """How many hosts, for how long, with how much memory. Bytes and seconds."""

    hosts: int = 1
    """Hosts at a time, of all engines."""
    idle_seconds: float = 600.0
    """A host that nobody has used for so long is ended."""
    recycle_bytes: int = 0
    """A host that keeps more than this after a recording is ended; 0: none is."""
    recycle_device_bytes: int = 0
    """The same on its device."""
    reserve_bytes: int = 0
    """Memory that is never given to hosts."""
    wait_seconds: float = 600.0
    """How long a recording waits for memory when no host of ours could give any back."""


@dataclass(slots=True, eq=False)
class _Slot:
    """A host and whether somebody uses it; `host` is None while it is being started."""

    plan: HostPlan
    host: Host | None = None
    busy: bool = True
    need: int = 0
    idle_since: float = 0.0

    def promised(self) -> int:
        """Bytes that its user may still take."""
        held = resident(self.host.pid) if self.host is not None and self.host.alive else 0
        return max(0, self.need - held) if self.busy else 0


class HostPool:
    """At most `limits.hosts` hosts; those with equal plans serve each other's recordings.

    A recording is admitted when the memory that it is expected to need is there beside what has been promised to
    others; until then it waits. Idle hosts are ended to make room. Safe for threads. Not for use across a fork: hosts
    belong to the process that started them. Close it, or use it as a context manager.
    """

    def __init__(
        self, limits: PoolLimits | None = None, *, make: Callable[[HostPlan], Host] = Host,
        memory: Memory | None = None,
    ) -> None:  # fmt: skip
        """`make` builds (and does not start) a host."""
        self.limits = limits or PoolLimits()
        if self.limits.hosts < 1:
            raise ValueError("a pool needs room for one host")
        self._make = make
        self._memory = memory or Machine()
        self._slots: list[_Slot] = []
        self._changed = threading.Condition()
        self._closed = False
        self._reaper: threading.Thread | None = None
        self._starts = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __len__(self) -> int:
        return len(self._slots)

    @contextlib.contextmanager
    def lease(
        self, plan: HostPlan, *, copies: int = 1, need: int = 0, check: Callable[[], None] | None = None,
        waiting: Callable[[str], None] = lambda _reason: None,
    ) -> Iterator[Host]:  # fmt: skip
        """A warm host for the caller alone until the context ends.

        Args:
            plan: the host.
            copies: how many hosts of this plan there may be.
            need: bytes that the host is expected to hold at its peak; 0: not known.
            check: polled while waiting; ends the wait by raising.
            waiting: told in words what is waited for.

        Raises `OutOfMemory` if the memory cannot be had, and what `Host.start` raises.
        """
        slot, evicted = self._take(plan, copies, need, check, waiting)
        host = slot.host
        try:
            for old in evicted:
                old.close()
            if host is not None and not self._answers(host):
                host.close()
                host = slot.host = None
            if host is None:
                host = self._make(plan)
                self._starts += 1
                host.start(check)
                self._enter(slot, host)
            yield host
        finally:
            self._give_back(slot, host)

    def finished(self, host: Host, *, rss: int = 0, device_bytes: int = 0) -> None:
        """Tell what a host holds after a recording; one that keeps too much is ended (then it is not warm any more)."""
        limits = self.limits
        if 0 < limits.recycle_bytes < rss or 0 < limits.recycle_device_bytes < device_bytes:
            host.close()

    def stats(self) -> dict[str, Any]:
        """What there is, as JSON-ready data."""
        with self._changed:
            now = time.monotonic()
            hosts = [
                {
                    "engine": slot.plan.engine, "model": slot.plan.model, "device": slot.plan.device,
                    "pid": slot.host.pid, "busy": slot.busy, "separations": slot.host.separations,
                    "idle_seconds": 0.0 if slot.busy else round(now - slot.idle_since, 1),
                    "rss": resident(slot.host.pid), "need": slot.need,
                }
                for slot in self._slots
                if slot.host is not None and slot.host.alive
            ]  # fmt: skip
        return {"hosts": hosts, "limit": self.limits.hosts, "starts": self._starts}

    def close(self) -> None:
        """End every host. A lease that is out loses its host."""
        with self._changed:
            self._closed = True
            hosts = [slot.host for slot in self._slots if slot.host is not None]
            self._slots.clear()
            self._changed.notify_all()
        for host in hosts:
            host.close()
        if self._reaper is not None:
            self._reaper.join()

    @staticmethod
    def _answers(host: Host) -> bool:
        """Whether a warm host still does: it may have been stopped, or hang."""
        with contextlib.suppress(IroncladError):
            host.ping()
            return True
        return False

    def _take(
        self, plan: HostPlan, copies: int, need: int, check: Callable[[], None] | None, waiting: Callable[[str], None]
    ) -> tuple[_Slot, list[Host]]:
        """A slot, now ours, and the hosts that have to end for it."""
        since: float | None = None
        while True:
            with self._changed:
                if self._closed:
                    raise RuntimeError("the pool is closed")
                slot, evicted, reason = self._find(plan, copies, need)
                if slot is not None:
                    return slot, evicted
                alone = not any(other.busy for other in self._slots)
                if not evicted:
                    self._changed.wait(_POLL_SECONDS)
            for old in evicted:  # their memory is needed: look again once it is free
                old.close()
            waiting(reason)
            if check is not None:
                check()
            since = (since or time.monotonic()) if alone and not evicted else None
            if since is not None and time.monotonic() - since > self.limits.wait_seconds:
                raise OutOfMemory(
                    f"{plan.label}: {reason} for {self.limits.wait_seconds:.0f} s", need=need, waited=True
                )

    def _find(self, plan: HostPlan, copies: int, need: int) -> tuple[_Slot | None, list[Host], str]:
        """A slot taken for the caller, hosts to end (before it is started, or before looking again), or why not."""
        own = [slot for slot in self._slots if slot.plan == plan]
        warm = next((slot for slot in own if not slot.busy), None)
        if warm is None and len(own) >= max(1, copies):
            return None, [], "waiting for the engine, which is busy"
        others = sorted((s for s in self._slots if not s.busy and s is not warm), key=lambda s: s.idle_since)
        short = self._short(warm, need)
        if short > 0:
            if others:  # the memory of a host that nobody uses
                self._slots.remove(others[0])
                return None, [others[0].host] if others[0].host else [], "ending an idle engine for its memory"
            return None, [], f"waiting for memory: {need / 1e9:.2f} GB are needed, {short / 1e9:.2f} GB more than free"
        if warm is not None:
            return warm, self._occupy(warm, need), ""
        evicted: list[Host] = []
        if len(self._slots) >= self.limits.hosts:
            if not others:
                return None, [], "waiting for room: as many engines are at work as may be"
            self._slots.remove(others[0])
            evicted = [others[0].host] if others[0].host is not None else []
        slot = _Slot(plan, need=need)
        self._slots.append(slot)
        return slot, evicted, ""

    @staticmethod
    def _occupy(slot: _Slot, need: int) -> list[Host]:
        """Take a free slot; a host in it that has died in the meantime is to be ended."""
        slot.busy, slot.need = True, need
        if slot.host is None or slot.host.alive:
            return []
        dead, slot.host = slot.host, None
        return [dead]

    def _short(self, warm: _Slot | None, need: int) -> int:
        """Bytes that are missing for a recording that needs so many; 0 or less: none."""
        available = self._memory.available()
        if not need or not available:
            return 0
        held = resident(warm.host.pid) if warm is not None and warm.host is not None and warm.host.alive else 0
        promised = sum(slot.promised() for slot in self._slots)
        return max(0, need - held) + promised + self.limits.reserve_bytes - available

    def _enter(self, slot: _Slot, host: Host) -> None:
        """Let `close` know of a host that was just started."""
        with self._changed:
            if self._closed:
                raise RuntimeError("the pool is closed")
            slot.host = host

    def _give_back(self, slot: _Slot, host: Host | None) -> None:
        usable = host is not None and host.alive
        with self._changed:
            ours = slot in self._slots
            if usable and ours:
                slot.host, slot.busy, slot.idle_since = host, False, time.monotonic()
                self._start_reaper()
            elif ours:
                self._slots.remove(slot)
            self._changed.notify_all()
        if host is not None and not (usable and ours):
            host.close()

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
                idle = [slot for slot in self._slots if not slot.busy]
                oldest = min(idle, key=lambda slot: slot.idle_since, default=None)
                wait = self.limits.idle_seconds - (now - oldest.idle_since if oldest else 0.0)
                if oldest is None or wait > 0:
                    self._changed.wait(wait)
                    continue
                self._slots.remove(oldest)
                self._changed.notify_all()
            if oldest.host is not None:
                oldest.host.close()
