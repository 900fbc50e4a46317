"""Whether anybody would be told: channels, routes, the notifier itself, what it could not deliver."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ironclad.db.embedded import EmbeddedServer
from ironclad.errors import DatabaseUnavailable
from ironclad.ops import directory
from ironclad.ops.checks.outcome import Outcome, fail, ok, warn

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ironclad.config import Settings

_OLD_SECONDS: Final = 900.0
_SET: Final = "Set notify.channels (docs/notifications.md), then `ironclad notify test CHANNEL`."


def channels(settings: Settings) -> list[Outcome]:
    """Each channel can be used as it is set, and failures have somewhere to go."""
    if not settings.notify.channels:
        return [warn("no channel is set: nobody is told of failures", _SET)]
    from ironclad.notify import control  # noqa: PLC0415 - heavy, and only here

    found = []
    for name, problem in control.check(settings.notify).items():
        remedy = f"Put notify.channels.{name} right, then `ironclad notify test {name}`."
        found.append(fail(problem, remedy, about=name) if problem else ok("can be used as it is set", about=name))
    for number, route in enumerate(settings.notify.routes, start=1):
        if route.mute and not (route.kinds or route.labels):
            detail = f"keeps everything of severity {route.severity} and worse to itself where no other route tells it"
            found.append(warn(detail, "Give the route kinds or labels.", about=f"route {route.name or number}"))
    return [*found, *_delivery(settings)]


def _delivery(settings: Settings) -> Iterator[Outcome]:
    if settings.database_url is None and EmbeddedServer(settings.layout.postgres).pid() is None:
        return
    from ironclad.db import schema  # noqa: PLC0415 - as above
    from ironclad.db.session import Database  # noqa: PLC0415
    from ironclad.notify import query  # noqa: PLC0415
    from ironclad.ops.heartbeat import libpq_url  # noqa: PLC0415

    database = Database(libpq_url(settings))
    try:
        if schema.current(database) is None:
            return  # no tables yet; another finding says so
        with database.session() as session:
            view = query.overview(session)
    except DatabaseUnavailable:
        return  # another finding says so
    finally:
        database.close()
    service = directory.find(settings.layout.run, "notify")
    running = service is not None and service.alive
    if view.unrouted + view.waiting and view.oldest_seconds > _OLD_SECONDS:
        detail = f"{view.unrouted + view.waiting} wait to be sent, the oldest for {view.oldest_seconds:.0f} s"
        yield fail(detail, "Start the notifier: `ironclad up`, or `ironclad run notify`.", about="outbox")
    elif not running:
        yield warn("the notifier does not run on this host", "Start it: `ironclad run notify`.", about="outbox")
    else:
        yield ok("nothing waits for long", about="outbox")
    if view.dead:
        remedy = "See `ironclad notify dead list`; put the channel right, then `ironclad notify dead resend --all`."
        yield warn(f"{view.dead} messages were given up", remedy, about="dead letters")
