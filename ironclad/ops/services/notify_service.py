"""`ironclad run notify`: the notifier with its health and metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ironclad.ops.service import ServiceRuntime

_REMEDY = "Set notify.channels (docs/notifications.md); until then everything waits in the outbox."


class NotifyService:
    """Routes, groups and delivers what is in the outbox."""

    name = "notify"

    def run(self, runtime: ServiceRuntime) -> None:
        """Notify until the runtime stops."""
        if not runtime.settings.notify.channels:
            runtime.health.degraded("channels", "no channel is configured: nobody is told of anything", _REMEDY)
        runtime.ready()
        runtime.stopping.wait()
