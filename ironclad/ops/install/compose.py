"""The compose project of an installation: image recipe, services, secrets. Writing it needs no Docker."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import ironclad
from ironclad.ops import directory

DATA: Final = "/var/lib/ironclad"
PROGRAM: Final = "/opt/ironclad/bin"
UID: Final = 10001
BASE_PORT: Final = 9640
PREFECT_PORT: Final = 4200
_SECRET_BYTES: Final = 24
_GRACE: Final = 30


@dataclass(frozen=True, slots=True)
class Project:
    """What the files depend on."""

    drain_seconds: float = 60.0
    slots: int = 2
    gpu_slots: int = 1


def render(project: Project) -> dict[Path, str]:
    """Every file by its path in the project's folder; what `ironclad install compose` keeps current."""
    return {
        Path("compose.yaml"): _compose(project),
        Path("Dockerfile"): _DOCKERFILE,
        Path("prometheus.yml"): _prometheus(),
    }


def initial(project: Project) -> dict[Path, str]:
    """Files that are the operator's from the moment they are there: secrets, and settings to fill in."""
    del project
    password = secrets.token_urlsafe(_SECRET_BYTES)
    return {
        Path("secrets/postgres_password"): password + "\n",
        Path("secrets/database_url"): f"postgresql://ironclad:{password}@postgres/ironclad\n",
        Path(
            "ironclad.toml"
        ): "# Every setting is in docs/settings.md. Addresses and the data folder are set in compose.yaml.\n",
        Path(
            "wheels/README"
        ): "Wheels in this folder are preferred when the image is built (`make release-check` makes one).\n",
    }


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
    name: str, command: str, *, memory: str, after: str = "", profile: str = "", grace: float = _GRACE, more: str = ""
) -> str:
    profiles = f'    profiles: ["{profile}"]\n' if profile else ""
    return f"""
  {name}:
    <<: *ironclad
    command: [{", ".join(f'"{word}"' for word in command.split())}]
{profiles}    depends_on:
      schema: {{condition: service_completed_successfully}}
{after}    stop_grace_period: {round(grace)}s
    mem_limit: {memory}
{more}{_health(name)}"""


def _compose(project: Project) -> str:
    after_prefect = "      prefect: {condition: service_healthy}\n"
    grace = project.drain_seconds + _GRACE
    parts = [
        _TOP,
        _service(
            "prefect", "run prefect", memory="2g",
            more=f'    networks: [inside, outside]\n    ports: ["127.0.0.1:{PREFECT_PORT}:{PREFECT_PORT}"]\n',
        ),
        _service("watch", "run watch", memory="1g"),
        _service("dispatch", "run dispatch", memory="1g", after=after_prefect),
        _service(
            "worker-cpu", "run worker --pool cpu", memory="${IRONCLAD_WORKER_MEMORY:-8g}", after=after_prefect,
            grace=grace,
        ),
        _service(
            "worker-gpu", "run worker --pool gpu", memory="${IRONCLAD_WORKER_MEMORY:-8g}", after=after_prefect,
            profile="gpu", grace=grace, more=_GPU,
        ),
        _BOTTOM,
    ]  # fmt: skip
    text = "".join(parts)
    return text.replace("@SLOTS@", str(project.slots)).replace("@GPU_SLOTS@", str(project.gpu_slots))


def _prometheus() -> str:
    names = ("prefect", "watch", "dispatch", "worker-cpu", "worker-gpu")
    targets = "".join(f"          - {name}:{BASE_PORT + directory.OFFSETS[name]}\n" for name in names)
    return f"""# Made by `ironclad install compose`, which writes it anew at an upgrade.
global:
  scrape_interval: 15s
scrape_configs:
  - job_name: ironclad
    static_configs:
      - targets:
{targets}"""


_TOP: Final = f"""# Made by `ironclad install compose`, which writes it anew at an upgrade. Put changes of yours into
# compose.override.yaml, which docker compose reads by itself and the command leaves alone.

x-ironclad: &ironclad
  image: ironclad-audio:{ironclad.__version__}
  build: {{context: ., args: {{IRONCLAD: "ironclad-audio=={ironclad.__version__}"}}}}
  user: "{UID}:{UID}"
  restart: unless-stopped
  # Only the data folder and /tmp can be written.
  read_only: true
  tmpfs: [/tmp]
  cap_drop: [ALL]
  security_opt: ["no-new-privileges:true"]
  pids_limit: 2048
  networks: [inside]
  secrets: [database_url]
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
    IRONCLAD_PREFECT__API_URL: http://prefect:{PREFECT_PORT}/api
    IRONCLAD_PREFECT__DATABASE: postgresql
    IRONCLAD_POOLS: '{{"cpu": {{"slots": @SLOTS@}}, "gpu": {{"slots": @GPU_SLOTS@}}}}'
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
    environment:
      POSTGRES_USER: ironclad
      POSTGRES_DB: ironclad
      POSTGRES_PASSWORD_FILE: /run/secrets/postgres_password
    secrets: [postgres_password]
    volumes: ["postgres:/var/lib/postgresql/data"]
    networks: [inside]
    shm_size: 128m
    mem_limit: 2g
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
"""
_GPU: Final = """    deploy:
      resources:
        reservations:
          devices: [{driver: nvidia, count: 1, capabilities: [gpu]}]
"""
_BOTTOM: Final = """
  prometheus:
    image: prom/prometheus:v3.5.0
    profiles: ["observability"]
    restart: unless-stopped
    read_only: true
    cap_drop: [ALL]
    security_opt: ["no-new-privileges:true"]
    networks: [inside, outside]
    ports: ["127.0.0.1:9090:9090"]
    volumes: ["./prometheus.yml:/etc/prometheus/prometheus.yml:ro", "prometheus:/prometheus"]
    mem_limit: 1g

networks:
  # No way out of it: songs and tags stay here. Add `outside` to worker-cpu for MusicBrainz and cover art.
  inside: {internal: true}
  outside: {}

volumes:
  data: {}
  postgres: {}
  prometheus: {}

secrets:
  database_url: {file: ./secrets/database_url}
  postgres_password: {file: ./secrets/postgres_password}
"""
_DOCKERFILE: Final = f"""# Made by `ironclad install compose`, which writes it anew at an upgrade.
# One stage builds, the other runs: no compiler, no pip cache and no secret is in what runs.
FROM python:3.12-slim-bookworm AS build
ARG IRONCLAD
COPY wheels/ /wheels/
RUN python -m venv /opt/ironclad \\
 && /opt/ironclad/bin/pip install --no-cache-dir --find-links /wheels "$IRONCLAD"

FROM python:3.12-slim-bookworm
RUN apt-get update && apt-get install -y --no-install-recommends tini && rm -rf /var/lib/apt/lists/* \\
 && useradd --uid {UID} --user-group --no-create-home --home-dir {DATA} ironclad \\
 && install -d -o ironclad -g ironclad -m 0750 {DATA}
COPY --from=build /opt/ironclad /opt/ironclad
ENV PATH=/opt/ironclad/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
USER {UID}:{UID}
WORKDIR {DATA}
VOLUME {DATA}
# Process 1 must collect the dead and pass signals on.
ENTRYPOINT ["/usr/bin/tini", "--", "/opt/ironclad/bin/ironclad"]
CMD ["--help"]
"""
