"""Flow runs through Prefect's public REST API, without importing Prefect (25 MB and 1.5 s less for the dispatcher).

The payloads are what Prefect 3.8's own client sends; `tests/integration/flows` tries each against a real server.
"""

from __future__ import annotations

import re
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

import httpx

from ironclad.errors import PrefectRefused, PrefectUnavailable
from ironclad.jobs.executor import RunState
from ironclad_flows.environment import api_url
from ironclad_flows.wake import wake

if TYPE_CHECKING:
    from pathlib import Path

    from ironclad.config import Settings
    from ironclad.jobs.executor import FlowRequest

FLOW_NAME = "process-track"
ENTRYPOINT = "ironclad_flows.process_track.process_track"
WORKER_TYPE = "ironclad"
MAINTENANCE = "maintenance"
MAINTENANCE_ENTRYPOINT = "ironclad_flows.maintenance.maintenance"
ANCHOR = "2026-01-01T03:00:00+00:00"
"""Rounds are counted from here, so that starting anew does not put the next one off."""
CALL_SECONDS = 25.0
"""How long one call of `PrefectExecutor` may take, all its requests together."""
_REQUEST_SECONDS = 10.0
_CONNECT_SECONDS = 3.0
_FIRST_PAUSE, _LAST_PAUSE = 0.1, 2.0

# Prefect checks a run's parameters against this when the run is created.
PARAMETERS = {
    "type": "object",
    "properties": {
        "job_uuid": {"type": "string", "title": "job_uuid", "position": 0},
        "attempt": {"type": "integer", "title": "attempt", "position": 1},
    },
    "required": ["job_uuid", "attempt"],
}
# A run of the worker type `ironclad` has nothing to set but its environment.
JOB_TEMPLATE: dict[str, Any] = {
    "job_configuration": {"env": "{{ env }}"},
    "variables": {
        "type": "object",
        "properties": {
            "env": {
                "title": "Environment variables",
                "description": "What a run sees besides its worker's own environment.",
                "type": "object",
                "additionalProperties": {"anyOf": [{"type": "string"}, {"type": "null"}]},
            },
        },
    },
}

_STATES = {
    "SCHEDULED": RunState.WAITING,
    # A worker has taken it and starts its process; one that is killed just then leaves it so for ever. As RUNNING it is
    # given up when it has not claimed its job in time.
    "PENDING": RunState.RUNNING,
    "PAUSED": RunState.WAITING,
    "RUNNING": RunState.RUNNING,
    "CANCELLING": RunState.RUNNING,
    "COMPLETED": RunState.FINISHED,
    "FAILED": RunState.FINISHED,
    "CANCELLED": RunState.FINISHED,
    "CRASHED": RunState.FINISHED,
}
# Longer than between two questions, shorter than the server keeps it (60 s).
_KEPT = httpx.Limits(max_connections=1, keepalive_expiry=30.0)
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
_LONGEST_NAME = 200
# What is wrong with the request itself; of the others (no access, a wrong time, too many) the job knows nothing.
_REFUSALS = frozenset({400, 409, 413, 414, 422, 431})
_MOST_RUNNING = 200  # Prefect's own limit of a page; pools have far fewer slots


def _state_of(run: dict[str, Any]) -> RunState:
    state = run.get("state")
    return RunState.WAITING if state is None else _STATES[state["type"]]


class PrefectExecutor:
    """Implements `ironclad.jobs.executor.Executor`; may be used from several threads.

    Args:
        api_url: Prefect's API, `http://host:port/api`.
        run_dir: the services' run folder, to wake workers of this host at once; without it they find out by asking.
        maintenance_seconds: how often the flow `maintenance` is scheduled; None: not by us.
    """

    def __init__(
        self, api_url: str, *, run_dir: Path | None = None, maintenance_seconds: float | None = None
    ) -> None:  # fmt: skip
        self._run_dir = run_dir
        self._maintenance_seconds = maintenance_seconds
        self._client = httpx.Client(base_url=api_url.rstrip("/"), trust_env=False)
        self._slots: dict[str, int] = {}
        self._deployments: dict[str, str] = {}
        self._lock = threading.Lock()
        self._suspects: set[str] = set()

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """The executor of an installation: its Prefect server as it is reachable now."""
        return cls(
            api_url(settings), run_dir=settings.layout.run, maintenance_seconds=settings.prune.every_hours * 3600.0
        )  # fmt: skip

    @staticmethod
    def pinger(settings: Settings, seconds: float) -> Pinger:
        """What asks the server of an installation for a sign of life, each time it is called."""
        return Pinger(settings, seconds)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    # --- ironclad.jobs.executor.Executor --------------------------------------------------------------------------

    def submit(self, request: FlowRequest) -> str:
        """Create the flow run, or find the one that this key made before, and return its id.

        A server that does not take the job's name or tags gets a run without them.
        """
        try:
            run = self._create(_Call(self._client), request)
        except PrefectRefused:
            run = self._create(_Call(self._client), replace(request, name=str(request.job_uuid), tags=()))
        if self._run_dir is not None:
            wake(self._run_dir, request.pool)
        return str(run["id"])

    def state(self, run_id: str) -> RunState:
        """Where the run is now."""
        run = _Call(self._client).json("GET", f"/flow_runs/{run_id}", missing=True)
        return RunState.UNKNOWN if run is None else _state_of(run)

    def cancel(self, run_id: str) -> None:
        """Ask for the run to end; one that has ended, or that nobody knows, is fine."""
        self._set_state(run_id, {"type": "CANCELLING", "name": "Cancelling"}, force=False)

    def abandon(self, run_id: str, reason: str) -> None:
        """Force the run to Crashed unless it has ended."""
        if self.state(run_id) in (RunState.WAITING, RunState.RUNNING):
            self._set_state(run_id, {"type": "CRASHED", "name": "Crashed", "message": reason}, force=True)

    def retire(self, active: frozenset[str]) -> int:
        """Force to Crashed what Prefect believes to be running and what was in no job at two looks in a row."""
        with self._lock:
            deployments = list(self._deployments.values())
        body = {
            "deployments": {"id": {"any_": deployments}},
            "flow_runs": {"state": {"type": {"any_": ["RUNNING", "CANCELLING"]}}},
            "limit": _MOST_RUNNING,
        }
        running = _Call(self._client).json("POST", "/flow_runs/filter", body) if deployments else []
        idle = {str(run["id"]) for run in running} - active
        ended, self._suspects = idle & self._suspects, idle
        for run_id in sorted(ended):
            self.abandon(run_id, "its process ended without being able to report it")
        return len(ended)

    def set_paused(self, pool: str, *, paused: bool) -> None:
        """Pause or resume the work pool: a paused one hands out no runs."""
        _Call(self._client).json("PATCH", f"/work_pools/{pool}", {"is_paused": paused})

    def prepare(self, pools: dict[str, int]) -> None:
        """Make the work pools (name: slots) and their deployments exist and be current."""
        call = _Call(self._client)
        for pool, slots in pools.items():
            self._slots[pool] = slots
            self._deploy(call, pool)
        if self._maintenance_seconds is not None and pools:
            self._schedule(call, "cpu" if "cpu" in pools else next(iter(pools)), self._maintenance_seconds)

    # --- how ------------------------------------------------------------------------------------------------------

    def _create(self, call: _Call, request: FlowRequest) -> dict[str, Any]:
        body = {
            "name": _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", request.name)[:_LONGEST_NAME]
            or str(request.job_uuid),
            "parameters": {"job_uuid": str(request.job_uuid), "attempt": request.attempt},
            "tags": list(request.tags),
            "idempotency_key": request.key,
            "state": {"type": "SCHEDULED"},
        }
        with self._lock:
            deployment = self._deployments.get(request.pool) or self._deploy(call, request.pool)
        path = f"/deployments/{deployment}/create_flow_run"
        run = call.json("POST", path, body, missing=True, refusable=True)
        if run is None:  # Prefect has lost its database, or somebody deleted the deployment
            with self._lock:
                deployment = self._deploy(call, request.pool)
            run = call.json("POST", f"/deployments/{deployment}/create_flow_run", body, refusable=True)
        return dict(run)

    def _deploy(self, call: _Call, pool: str) -> str:
        # No limit of Prefect's: it would count runs whose process is gone. Workers have their own (`--limit`).
        if call.json("GET", f"/work_pools/{pool}", missing=True) is None:
            call.json(
                "POST",
                "/work_pools/",
                {"name": pool, "type": WORKER_TYPE, "base_job_template": JOB_TEMPLATE, "concurrency_limit": None},
            )
        else:
            call.json("PATCH", f"/work_pools/{pool}", {"base_job_template": JOB_TEMPLATE, "concurrency_limit": None})
        flow = call.json("POST", "/flows/", {"name": FLOW_NAME})
        deployment = call.json(
            "POST",
            "/deployments/",
            {
                "name": pool,
                "flow_id": flow["id"],
                "work_pool_name": pool,
                "entrypoint": ENTRYPOINT,
                "parameter_openapi_schema": PARAMETERS,
                "enforce_parameter_schema": True,
                "description": f"One attempt of a job on the {pool} pool; created by the dispatcher.",
            },
        )
        self._deployments[pool] = str(deployment["id"])
        return self._deployments[pool]

    def _schedule(self, call: _Call, pool: str, seconds: float) -> None:
        """Deploy the flow `maintenance` on a pool; what is as it should be is left alone, with the runs it has."""
        every = {"interval": seconds, "anchor_date": ANCHOR, "timezone": "UTC"}
        there = call.json("GET", f"/deployments/name/{MAINTENANCE}/{MAINTENANCE}", missing=True)
        if there is not None:
            schedules = [one["schedule"].get("interval") for one in there["schedules"]]
            if (there["work_pool_name"], there["entrypoint"], schedules) == (pool, MAINTENANCE_ENTRYPOINT, [seconds]):
                return  # also where an operator has paused it
        flow = call.json("POST", "/flows/", {"name": MAINTENANCE})
        call.json(
            "POST",
            "/deployments/",
            {
                "name": MAINTENANCE,
                "flow_id": flow["id"],
                "work_pool_name": pool,
                "entrypoint": MAINTENANCE_ENTRYPOINT,
                "schedules": [{"schedule": every, "active": True}],
                "description": "Sets leftovers of crashes aside and prunes by the rules of prune.*",
            },
        )

    def _set_state(self, run_id: str, state: dict[str, str], *, force: bool) -> None:
        # A refusal (the run has ended) is an answer with status ABORT, not an error.
        _Call(self._client).json(
            "POST", f"/flow_runs/{run_id}/set_state", {"state": state, "force": force}, missing=True
        )


class Pinger:
    """Asks for a sign of life, on one connection that is kept: making a client costs more than all it asks in a minute.

    For one thread at a time.

    Args:
        settings: where the server is.
        seconds: how long an answer may take.
    """

    def __init__(self, settings: Settings, seconds: float) -> None:
        self._settings = settings
        self._seconds = seconds
        self._url = ""
        self._client: httpx.Client | None = None

    def __call__(self) -> None:
        """Ask. Raises `PrefectUnavailable`."""
        url = api_url(self._settings)
        try:
            answer = self._client_of(url).get("health")
        except (httpx.HTTPError, OSError, ValueError) as exc:
            raise PrefectUnavailable(f"{url} does not answer: {type(exc).__name__}") from exc
        if answer.is_error:
            raise PrefectUnavailable(f"{url} answers {answer.status_code}")

    def _client_of(self, url: str) -> httpx.Client:
        if self._client is None or url != self._url:
            self.close()
            self._client = httpx.Client(base_url=url, timeout=self._seconds, trust_env=False, limits=_KEPT)
            self._url = url
        return self._client

    def close(self) -> None:
        """Close the connection; the next call makes another."""
        if self._client is not None:
            self._client.close()
            self._client = None


class _Call:
    """Requests that share one deadline."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client
        self._deadline = time.monotonic() + CALL_SECONDS

    def json(
        self, method: str, path: str, body: dict[str, Any] | None = None, *,
        missing: bool = False, refusable: bool = False,
    ) -> Any:  # fmt: skip
        """The answer's JSON (None if there is none); None also for 404 if `missing` is allowed.

        Raises `PrefectUnavailable` for everything else: no connection, no answer in time, an error status, no JSON; and
        `PrefectRefused` for a status that blames the request, if it is `refusable`.
        """
        try:
            response = self._request(method, path, body)
            if missing and response.status_code == httpx.codes.NOT_FOUND:
                return None
            if response.is_error:
                refused = refusable and response.status_code in _REFUSALS
                kind = PrefectRefused if refused else PrefectUnavailable
                raise kind(f"{method} {path}: {response.status_code} {response.text[:300]}")
            return response.json() if response.content else None
        except (httpx.HTTPError, ValueError) as exc:
            raise PrefectUnavailable(f"{method} {path}: {exc!r}") from exc

    def _request(self, method: str, path: str, body: dict[str, Any] | None) -> httpx.Response:
        pause = _FIRST_PAUSE
        while True:
            left = self._deadline - time.monotonic()
            if left <= 0:
                raise PrefectUnavailable(f"{method} {path}: out of time after {CALL_SECONDS:.0f} s.")
            timeout = httpx.Timeout(min(_REQUEST_SECONDS, left), connect=min(_CONNECT_SECONDS, left))
            response = self._client.request(method, path, json=body, timeout=timeout)
            # How Prefect says that its database was busy (SQLite, mostly) and that nothing was changed.
            if response.status_code != httpx.codes.SERVICE_UNAVAILABLE or pause > _LAST_PAUSE:
                return response
            time.sleep(pause)
            pause *= 2
