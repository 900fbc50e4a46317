"""The compose project of an installation: services, networks, profiles. Writing it needs no Docker."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import ironclad
from ironclad.ops import directory
from ironclad.ops.install import companions, recipes
from ironclad.ops.install.recipes import API_PORT, BASE_PORT, CLAMAV_RUN, DATA, PREFECT_PORT, PROGRAM, UID

_GRACE: Final = 30


@dataclass(frozen=True, slots=True)
class Project:
    """What the files depend on."""

    drain_seconds: float = 60.0
    slots: int = 2
    api_stop_seconds: float = 20.0
    gpu_slots: int = 0
    """0: there is no pool `gpu`. Pools without a worker are not declared: engines would be given to them."""


def render(project: Project) -> dict[Path, str]:
    """Every file by its path in the project's folder; what `ironclad install compose` keeps current."""
    return {Path("compose.yaml"): _compose(project), **recipes.render()}


def initial(project: Project) -> dict[Path, str]:
    """Files that are the operator's from the moment they are there: secrets, and settings to fill in."""
    return recipes.initial({"cpu": project.slots, "gpu": project.gpu_slots})


def _health(name: str) -> str:
    port = BASE_PORT + directory.OFFSETS[name]
    code = f"import urllib.request as r; r.urlopen('http://127.0.0.1:{port}/health/live', timeout=4)"
    return f"""    healthcheck:
      test: ["CMD", "{PROGRAM}/python", "-c", "{code}"]
      interval: 15s
      timeout: 5s
      retries: 4
      start_period: 90s
"""


def _service(
    name: str, command: str, *, memory: str, cpus: str, after: str = "", profile: str = "", grace: float = _GRACE,
    more: str = "", like: str = "",
) -> str:  # fmt: skip
    profiles = f'    profiles: ["{profile}"]\n' if profile else ""
    return f"""
  {name}:
    <<: *ironclad
    command: [{", ".join(f'"{word}"' for word in command.split())}]
{profiles}    depends_on:
      schema: {{condition: service_completed_successfully}}
{after}    stop_grace_period: {round(grace)}s
    mem_limit: {memory}
    cpus: {cpus}
{more}{_health(like or name)}"""


def _worker(pool: str, after: str, grace: float) -> str:
    version = ironclad.__version__
    more = f"""    image: ironclad-audio-{pool}:{version}
    build: {{context: ., target: {pool}, args: {{VERSION: "{version}"}}}}
    volumes:
      - "${{IRONCLAD_DATA:-data}}:{DATA}"
      - "./ironclad.toml:/etc/ironclad/ironclad.toml:ro"
      # Filled from the image when it is new; named by the version, so that an upgrade brings its own.
      - "engines-{pool}:{DATA}/engines"
      # The virus scanner's socket, where profile clamav runs and ironclad.toml names it.
      - "clamav-run:{CLAMAV_RUN}:ro"
"""
    return _service(
        f"worker-{pool}", f"run worker --pool {pool}", memory="${IRONCLAD_WORKER_MEMORY:-8g}",
        cpus="${IRONCLAD_WORKER_CPUS:-0}", after=after, grace=grace, profile="gpu" if pool == "gpu" else "",
        more=more + (_GPU if pool == "gpu" else ""),
    )  # fmt: skip


def _compose(project: Project) -> str:
    after_prefect = "      prefect: {condition: service_healthy}\n"
    grace = project.drain_seconds + _GRACE
    parts = [
        _TOP,
        _service(
            "prefect", "run prefect", memory="2g", cpus="2.0",
            more=f'{_PREFECT}    networks: [inside, outside]\n    ports: ["127.0.0.1:{PREFECT_PORT}:{PREFECT_PORT}"]\n',
        ),
        # After the first, which has made Prefect's tables by then.
        _service(
            "prefect-2", "run prefect", memory="2g", cpus="2.0", profile="full", after=after_prefect, like="prefect",
            more=_PREFECT,
        ),
        _service("watch", "run watch", memory="1g", cpus="1.0"),
        _service("dispatch", "run dispatch", memory="2g", cpus="1.0", after=after_prefect),
        _service("notify", "run notify", memory="512m", cpus="0.5", more="    networks: [inside, outside]\n"),
        _service(
            "api", "run api", memory="1g", cpus="1.0", profile="full", grace=project.api_stop_seconds + _GRACE,
            more=_API,
        ),
        _worker("cpu", after_prefect, grace),
        _worker("gpu", after_prefect, grace),
        companions.FULL,
        companions.OBSERVABILITY,
        companions.CLAMAV,
        _BOTTOM.replace("@VERSION@", ironclad.__version__),
    ]  # fmt: skip
    return "".join(parts)


_TOP: Final = f"""# Made by `ironclad install compose`, which writes it anew at an upgrade. Put changes of yours into
# compose.override.yaml, which docker compose reads by itself and the command leaves alone.
#
# Profiles (COMPOSE_PROFILES in .env, separated by commas): minimal; full adds a second Prefect server, Redis, the
# control API and traefik with TLS and passwords; gpu the worker of that pool, which ironclad.toml declares;
# observability Prometheus, Grafana, Loki and Alloy; clamav the virus scanner.

x-ironclad: &ironclad
  image: ironclad-audio:{ironclad.__version__}
  build: {{context: ., target: base, args: {{VERSION: "{ironclad.__version__}"}}}}
  user: "{UID}:{UID}"
  restart: unless-stopped
  # Only the data folder and /tmp can be written.
  read_only: true
  tmpfs: [/tmp]
  cap_drop: [ALL]
  security_opt: ["no-new-privileges:true"]
  pids_limit: 2048
  networks: [inside]
  secrets: [database_url, prefect__api_url]
  environment: &environment
    IRONCLAD_CONFIG: /etc/ironclad/ironclad.toml
    IRONCLAD_DATA_DIR: {DATA}
    # The only way in which secrets reach a service: files, never the environment, never the image.
    IRONCLAD_SECRETS_DIR: /run/secrets
    # Other containers reach it by its name; nothing of this is published on the host.
    IRONCLAD_SERVICES__HOST: 0.0.0.0
    IRONCLAD_SERVICES__BASE_PORT: "{BASE_PORT}"
    IRONCLAD_PREFECT__HOST: 0.0.0.0
    IRONCLAD_PREFECT__PORT: "{PREFECT_PORT}"
    IRONCLAD_PREFECT__DATABASE: postgresql
    IRONCLAD_LOG__FORMAT: json
    HOME: /tmp
  volumes:
    # Songs in, library out, archive, models: one file system, so that files are renamed instead of copied.
    - "${{IRONCLAD_DATA:-data}}:{DATA}"
    - "./ironclad.toml:/etc/ironclad/ironclad.toml:ro"

services:
  postgres:
    image: postgres:17-alpine
    restart: unless-stopped
    security_opt: ["no-new-privileges:true"]
    environment:
      POSTGRES_USER: ironclad
      POSTGRES_DB: ironclad
      POSTGRES_PASSWORD_FILE: /run/secrets/postgres_password
    secrets: [postgres_password]
    volumes: ["postgres:/var/lib/postgresql/data"]
    networks: [inside]
    shm_size: 128m
    mem_limit: 2g
    cpus: 2.0
    # A fast shutdown at SIGINT; the default would wait for every client.
    stop_signal: SIGINT
    stop_grace_period: 60s
    healthcheck:
      test: ["CMD", "pg_isready", "--username=ironclad", "--dbname=ironclad"]
      interval: 5s
      timeout: 5s
      retries: 12

  # Makes an empty database's tables; refuses one that needs a migration (docs/upgrading.md).
  schema:
    <<: *ironclad
    entrypoint: ["/usr/bin/tini", "--", "{PROGRAM}/python"]
    command: ["-m", "ironclad.ops.prepare", "schema"]
    restart: on-failure:5
    depends_on:
      postgres: {{condition: service_healthy}}
    mem_limit: 512m
    cpus: 1.0
"""
_GPU: Final = """    deploy:
      resources:
        reservations:
          devices: [{driver: nvidia, count: 1, capabilities: [gpu]}]
"""
_PREFECT: Final = f"""    # Its own run/: two servers may not meet there. prefect__redis_url is empty unless it is full.
    tmpfs: [/tmp, "{DATA}/run:uid={UID},gid={UID},mode=0750"]
    secrets: [database_url, prefect__api_url, prefect__redis_url]
    environment:
      <<: *environment
      # Where browsers reach the API.
      PREFECT_UI_API_URL: ${{IRONCLAD_UI_URL:-http://127.0.0.1:{PREFECT_PORT}}}/api
"""
_API: Final = f"""    # On the inner network alone: people come by traefik (TLS), each with a token of their own.
    environment:
      <<: *environment
      IRONCLAD_API__HOST: 0.0.0.0
      IRONCLAD_API__PORT: "{API_PORT}"
      # Names that clients call it by (.env).
      IRONCLAD_API__ALLOWED_HOSTS: '${{IRONCLAD_API_HOSTS:-["localhost"]}}'
"""
_BOTTOM: Final = """
networks:
  # No way out of it: songs and tags stay here. Add `outside` to worker-cpu for MusicBrainz and cover art.
  inside: {internal: true}
  outside: {}

volumes:
  data: {}
  engines-cpu: {name: "ironclad-engines-cpu-@VERSION@"}
  engines-gpu: {name: "ironclad-engines-gpu-@VERSION@"}
  postgres: {}
  redis: {}
  prometheus: {}
  grafana: {}
  loki: {}
  clamav: {}
  clamav-run: {}

secrets:
  database_url: {file: ./secrets/database_url}
  postgres_password: {file: ./secrets/postgres_password}
  prefect__api_url: {file: "./secrets/${IRONCLAD_PARTS:-minimal}/prefect__api_url"}
  prefect__redis_url: {file: "./secrets/${IRONCLAD_PARTS:-minimal}/prefect__redis_url"}
  redis_conf: {file: ./secrets/redis_conf}
  ui_users: {file: ./secrets/ui_users}
  grafana_password: {file: ./secrets/grafana_password}
"""
