"""`ironclad run api`: the control API with its health and metrics."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from ironclad import log
from ironclad.api import app, server
from ironclad.api.closing import Closing
from ironclad.api.context import Context
from ironclad.api.hub import Hub
from ironclad.config import is_loopback
from ironclad.db.session import Database
from ironclad.ops.health import Status
from ironclad.ops.probes import GOOD, STORAGE, DiskProbe, Verdict

if TYPE_CHECKING:
    from ironclad.api.server import Server
    from ironclad.ops.health import HealthBoard
    from ironclad.ops.service import ServiceRuntime

_TURN_SECONDS: Final = 5.0
_HUNG_SECONDS: Final = 60.0


class ApiService:
    """Answers requests of people and programs."""

    name = "api"

    def run(self, runtime: ServiceRuntime) -> None:
        """Serve until the runtime stops."""
        settings = runtime.settings
        sock = server.bound(settings.api.host, settings.api.port)
        host, port = sock.getsockname()[:2]
        url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        database = Database.open(settings)
        try:
            closing = Closing()
            hub = Hub(database, settings.api.listeners, runtime.metrics)
            hub.start(runtime.stopping)
            context = Context(settings, database, runtime.metrics, closing, hub)
            serving = server.Server(app.serving(context), sock, settings.api, closing, runtime.stop)
            serving.start()
            runtime.probe({STORAGE: DiskProbe(settings), "event loop": partial(_turns, serving, runtime.health)})
            runtime.health.ok("listener", url if is_loopback(host) else f"{url}, beyond this machine")
            runtime.facts["api"] = url
            log.get(component="api").info("api_listening", url=url, loopback=is_loopback(host))
            if serving.failure is None:
                runtime.ready()
            runtime.stopping.wait()
            serving.stop()
            if serving.failure is not None:
                raise serving.failure
        finally:
            database.close()


def _turns(serving: Server, health: HealthBoard) -> Verdict:
    """Whether requests are taken up; a loop that stands still for a minute counts as hung, and is restarted."""
    with health.within("event loop", _HUNG_SECONDS):
        if serving.answers(_TURN_SECONDS) or serving.answers(_HUNG_SECONDS):
            return GOOD
    return Verdict(Status.FAILED, "requests are not taken up", "It is restarted by itself if it stays so.")
