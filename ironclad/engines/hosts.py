"""Where a recording finds its host: in this process, or with the keeper that several processes share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, Self

if TYPE_CHECKING:
    from collections.abc import Callable

    from ironclad.engines.plan import HostPlan
    from ironclad.engines.pool import HostPool
    from ironclad.engines.separation import Progress, Separation, SeparationRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One recording for a host. The request names its stems and all parameters."""

    plan: HostPlan
    request: SeparationRequest
    copies: int = 1
    """How many hosts of this plan there may be."""
    need: int = 0
    """Bytes that the host is expected to hold at its peak; 0: not known."""


@dataclass(frozen=True, slots=True)
class Ears:
    """What is told and asked while an order is worked on."""

    progress: Callable[[Progress], None] = lambda _step: None
    check: Callable[[], None] = lambda: None
    """Ends the order by raising."""
    waiting: Callable[[str], None] = lambda _reason: None
    """Told in words what is waited for."""


class Hosts(Protocol):
    """Warm hosts, wherever they are."""

    def separate(self, order: Order, ears: Ears) -> Separation:
        """Separate a recording. Raises what `Host.start` and `Host.separate` raise, and what `ears` raise."""
        ...


class LocalHosts:
    """Hosts of this process, for its threads. Close it, or use it as a context manager."""

    def __init__(self, pool: HostPool) -> None:
        self.pool = pool

    def separate(self, order: Order, ears: Ears) -> Separation:
        """See `Hosts`."""
        lease = self.pool.lease(
            order.plan, copies=order.copies, need=order.need, check=ears.check, waiting=ears.waiting
        )
        with lease as host:
            result = host.separate(order.request, progress=ears.progress, check=ears.check)
            self.pool.finished(host, rss=result.used.rss, device_bytes=result.used.device_bytes)
        return result

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End every host."""
        self.pool.close()
