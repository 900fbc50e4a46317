"""How many hosts there may be and how each is run, as the settings and the machine say."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ironclad.engines.hosts import LocalHosts
from ironclad.engines.pool import HostPool, PoolLimits
from ironclad.engines.separation import HostSettings

if TYPE_CHECKING:
    from ironclad.config import Settings


def slots_of(settings: Settings, pool: str) -> int:
    """Jobs at a time in a pool on this machine."""
    return settings.pools[pool].slots if pool in settings.pools else 1


def pool_limits(settings: Settings, slots: int) -> PoolLimits:
    """The limits of a pool of hosts for so many jobs at a time."""
    engine = settings.engine
    return PoolLimits(
        hosts=engine.hosts or slots, idle_seconds=engine.idle_seconds, recycle_bytes=engine.recycle_bytes,
        recycle_device_bytes=engine.recycle_device_bytes, reserve_bytes=engine.reserve_bytes,
        wait_seconds=engine.memory_wait_seconds,
    )  # fmt: skip


def own_hosts(settings: Settings, slots: int = 1) -> LocalHosts:
    """Hosts of this process, for so many jobs at a time; to be closed."""
    return LocalHosts(HostPool(pool_limits(settings, slots)))


def host_settings(settings: Settings, pool: str) -> HostSettings:
    """How a host is run on this machine: the cores divided among the pool's slots, unless set."""
    slots = slots_of(settings, pool)
    threads = settings.engine.threads or max(1, (os.cpu_count() or 1) // slots)
    return HostSettings(
        threads=threads, memory_bytes=settings.engine.memory_bytes, stall_seconds=settings.engine.stall_seconds
    )


def copies(settings: Settings, pool: str, device: str) -> int:
    """How many hosts of one engine and model: one for each slot on the CPU, one on a GPU.

    With one on the CPU, the songs of all slots would wait for each other; on a GPU one fills the device.
    """
    return (settings.engine.hosts or slots_of(settings, pool)) if device == "cpu" else 1
