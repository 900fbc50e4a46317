"""The environment that makes Prefect ours: its home under the data folder, no call off the machine, little idling.

Prefect reads its settings from the environment when it is first imported, so this goes into a process's environment
before that. Names are Prefect's own (`prefect config view --show-defaults`).
"""

from __future__ import annotations

import importlib.util
import os
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from ironclad import durable
from ironclad.errors import ConfigError

if TYPE_CHECKING:
    from ironclad.config import Settings

URL_FILE = "prefect.url"
"""In the run folder: the API URL of the server that runs now, for when its port was chosen by the system."""
_FORBIDDEN = "OTEL_EXPORTER_"


def api_url(settings: Settings) -> str:
    """The Prefect API that this installation uses: the one set, else our own server's."""
    if settings.prefect.api_url is not None:
        return settings.prefect.api_url.rstrip("/")
    if settings.prefect.port == 0 and (published := settings.layout.run / URL_FILE).is_file():
        return published.read_text(encoding="ascii").strip()
    return url_of(settings.prefect.host, settings.prefect.port)


def is_known(settings: Settings) -> bool:
    """Whether `api_url` is one to use: a server without a fixed port must have started once."""
    fixed = settings.prefect.api_url is not None or settings.prefect.port != 0
    return fixed or (settings.layout.run / URL_FILE).is_file()


def last_port(settings: Settings) -> int | None:
    """The port that our own server had when it ran last; None if it never did."""
    try:
        return urlsplit((settings.layout.run / URL_FILE).read_text(encoding="utf-8").strip()).port
    except (OSError, ValueError):
        return None


def url_of(host: str, port: int) -> str:
    """The API URL of our own server as clients on this machine reach it."""
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared, not bound
    return f"http://[{reachable}]:{port}/api" if ":" in reachable else f"http://{reachable}:{port}/api"


def prefect_environment(
    settings: Settings, *, url: str | None = None, database_url: str | None = None
) -> dict[str, str]:
    """Prefect's settings for server, worker and runs.

    Args:
        settings: ours.
        url: the API URL, if it is not the one of `api_url`.
        database_url: for the server: a SQLAlchemy URL (`postgresql+asyncpg://…`); None is SQLite in Prefect's home.
    """
    home = settings.layout.prefect
    environment = {
        "PREFECT_HOME": str(home),
        "PREFECT_API_URL": url or api_url(settings),
        # Nothing leaves the machine, and nothing tries to.
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
        "PREFECT_CLIENT_SERVER_VERSION_CHECK_ENABLED": "false",
        "OTEL_SDK_DISABLED": "true",
        # Workers.
        "PREFECT_WORKER_QUERY_SECONDS": f"{settings.prefect.query_seconds:g}",
        "PREFECT_WORKER_HEARTBEAT_SECONDS": "30",
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
        # Runs: a server that restarts (about 15 s) must not fail them.
        "PREFECT_CLIENT_MAX_RETRIES": "8",
        "PREFECT_CLIENT_CSRF_SUPPORT_ENABLED": "false",  # saves every process a request; our server does not ask for it
        "PREFECT_RESULTS_PERSIST_BY_DEFAULT": "false",
        "PREFECT_LOGGING_COLORS": "false",
        **_services(),
    }
    if database_url is not None:
        environment["PREFECT_SERVER_DATABASE_CONNECTION_URL"] = database_url
        # Each idle connection is a process of 5 MB. As many at most as Prefect's own 5 and 10.
        environment["PREFECT_SERVER_DATABASE_SQLALCHEMY_POOL_SIZE"] = "3"
        environment["PREFECT_SERVER_DATABASE_SQLALCHEMY_MAX_OVERFLOW"] = "12"
    return environment


def redis_environment(settings: Settings) -> dict[str, str]:
    """What makes several servers one: messages, their order, leases and background work go through Redis.

    Empty without `prefect.redis_url`. Raises `ConfigError` if the package for it is missing.
    """
    if settings.prefect.redis_url is None:
        return {}
    if importlib.util.find_spec("prefect_redis") is None:
        raise ConfigError("prefect.redis_url needs prefect-redis: pip install 'ironclad-audio[redis]'.")
    url = settings.prefect.redis_url.get_secret_value()
    return {
        "PREFECT_MESSAGING_BROKER": "prefect_redis.messaging",
        "PREFECT_MESSAGING_CACHE": "prefect_redis.messaging",
        "PREFECT_SERVER_EVENTS_CAUSAL_ORDERING": "prefect_redis.ordering",
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect_redis.lease_storage",
        "PREFECT_REDIS_MESSAGING_URL": url,
        "PREFECT_SERVER_DOCKET_URL": url,
    }


def _services() -> dict[str, str]:
    """Prefect's background services: all on cost an idle server 2.8 % of a core, these 1.8 %."""
    off = (
        "PAUSE_EXPIRATIONS",  # no flow pauses
        "TRIGGERS",  # no automations: the reaper acts on our database
        "REPOSSESSOR",  # no concurrency leases: slots are the worker's and our database's
        "CLEANUP_RECONCILER",  # no worker clean-up queue
        "LATE_RUNS",  # waiting for a slot is normal here, and would be painted as trouble
    )
    return {
        **{f"PREFECT_SERVER_SERVICES_{name}_ENABLED": "false" for name in off},
        # What tells a dead worker in the UI; it looks every 15 s by itself.
        "PREFECT_SERVER_SERVICES_FOREMAN_LOOP_SECONDS": "30",
        # One schedule, of one round a day: new runs of it are no hurry.
        "PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "600",
        "PREFECT_SERVER_SERVICES_SCHEDULER_RECENT_DEPLOYMENTS_LOOP_SECONDS": "15",
        # Runs older than 90 days and events older than 7 go by themselves.
        "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "events,flow_runs",
    }


def apply(environment: dict[str, str]) -> None:
    """Put it into this process's environment, and take out exporters that Prefect's libraries would feed."""
    for name in list(os.environ):
        if name.startswith(_FORBIDDEN):
            del os.environ[name]
    os.environ.update(environment)


def publish_url(settings: Settings, url: str) -> None:
    """Write where the server is to the run folder."""
    durable.make_dirs(settings.layout.run)
    durable.write_atomic(settings.layout.run / URL_FILE, url.encode("ascii"))
