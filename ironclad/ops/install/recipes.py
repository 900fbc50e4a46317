"""The files beside compose.yaml: image recipe, what others' services read, and fresh secrets."""

from __future__ import annotations

import base64
import hashlib
import secrets
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ironclad.ops import directory

if TYPE_CHECKING:
    from collections.abc import Mapping

DATA: Final = "/var/lib/ironclad"
PROGRAM: Final = "/opt/ironclad/bin"
UID: Final = 10001
BASE_PORT: Final = 9640
PREFECT_PORT: Final = 4200
API_PORT: Final = 9700
INNER_PORT: Final = 8080
CLAMAV_RUN: Final = "/run/clamav"
RULES: Final = ("ironclad.rules.yml", "ironclad.slo.yml")
PREFECT_SERVERS: Final = ("prefect", "prefect-2")
_MADE: Final = "# Made by `ironclad install compose`, which writes it anew at an upgrade.\n"
_SECRET_BYTES: Final = 24


def render() -> dict[Path, str]:
    """Every file but compose.yaml, by its path in the project's folder."""
    return {
        Path("Dockerfile"): _DOCKERFILE,
        Path("prometheus.yml"): _prometheus(),
        **_rules(),
        Path("grafana/datasources/prometheus.yaml"): _GRAFANA,
        Path("grafana/dashboards/ironclad.yaml"): _PROVIDER,
        Path("loki/loki.yaml"): _LOKI,
        Path("alloy/config.alloy"): _ALLOY,
        Path("clamav/clamd.conf"): _CLAMD,
        Path("traefik/traefik.yaml"): _TRAEFIK,
        Path("traefik/routes/prefect.yaml"): _routes(),
        Path("traefik/routes/api.yaml"): _api_route(),
    }


def initial(slots: Mapping[str, int]) -> dict[Path, str]:
    """Files that are the operator's from the moment they are there: fresh secrets, and settings to fill in.

    Args:
        slots: of the pools `cpu` and `gpu`; 0 for a pool that nobody works for.
    """
    password, redis, interface, grafana = (secrets.token_urlsafe(_SECRET_BYTES) for _ in range(4))
    # htpasswd's SHA-1 form: the password has 192 random bits, so that no slow hash is needed.
    hashed = base64.b64encode(hashlib.sha1(interface.encode(), usedforsecurity=False).digest()).decode()
    return {
        Path("secrets/postgres_password"): f"{password}\n",
        Path("secrets/database_url"): f"postgresql://ironclad:{password}@postgres/ironclad\n",
        Path("secrets/minimal/prefect__api_url"): f"http://prefect:{PREFECT_PORT}/api\n",
        Path("secrets/minimal/prefect__redis_url"): "",
        Path("secrets/full/prefect__api_url"): f"http://traefik:{INNER_PORT}/api\n",
        Path("secrets/full/prefect__redis_url"): f"redis://:{redis}@redis:6379/0\n",
        Path("secrets/redis_conf"): f"requirepass {redis}\nappendonly yes\ndir /data\n",
        Path("secrets/ui_password"): f"{interface}\n",
        Path("secrets/ui_users"): f"ironclad:{{SHA}}{hashed}\n",
        Path("secrets/grafana_password"): f"{grafana}\n",
        Path("ironclad.toml"): _settings(slots),
        Path(".env"): _ENVIRONMENT,
        # JSON has no place for a seal, so that dashboards are the operator's; without them new ones are written.
        **_dashboards(),
        Path("wheels/README"): _WHEELS,
    }


def _settings(slots: Mapping[str, int]) -> str:
    gpu = f"[pools.gpu]\nslots = {slots['gpu'] or 1}\n"
    return f"""# Every setting is in docs/settings.md. Addresses and the data folder are set in compose.yaml.
[pools.cpu]
slots = {slots["cpu"]}

# With profile gpu in .env, and only then: engines that can use a GPU are given to this pool, worker or not.
{gpu if slots["gpu"] else textwrap.indent(gpu, "# ")}"""


def observability() -> Path:
    """The folder of rules and dashboards: in the package, or in the checkout that it is run from."""
    packed = Path(__file__).with_name("observability")
    return packed if packed.is_dir() else Path(__file__).parents[3] / "deploy" / "observability"


def _rules() -> dict[Path, str]:
    folder = observability() / "prometheus"
    return {Path("observability/prometheus") / name: (folder / name).read_text(encoding="utf-8") for name in RULES}


def _dashboards() -> dict[Path, str]:
    return {
        Path("observability/dashboards") / path.name: path.read_text(encoding="utf-8")
        for path in sorted((observability() / "grafana" / "dashboards").glob("*.json"))
    }


def _prometheus() -> str:
    names = (*PREFECT_SERVERS, "watch", "dispatch", "notify", "api", "worker-cpu", "worker-gpu")
    targets = "".join(
        f'      - {{targets: ["{name}:{BASE_PORT + directory.OFFSETS[name.removesuffix("-2")]}"], '
        f"labels: {{service: {name}}}}}\n"
        for name in names
    )
    rules = "".join(f"  - /etc/prometheus/rules/{name}\n" for name in RULES)
    return f"""{_MADE}# Services of profiles that do not run are shown as down.
global:
  scrape_interval: 15s
  evaluation_interval: 30s
rule_files:
{rules}scrape_configs:
  - job_name: ironclad
    honor_labels: true
    static_configs:
{targets}"""


def _routes() -> str:
    servers = "".join(f'          - url: "http://{name}:{PREFECT_PORT}"\n' for name in PREFECT_SERVERS)
    return f"""{_MADE}# A certificate of yours: a file of your own beside this one (`tls: {{certificates: […]}}`).
http:
  routers:
    # For our own services, on the inner network alone.
    inner:
      entryPoints: [inner]
      rule: "PathPrefix(`/`)"
      service: prefect
    # For people: TLS and a password (secrets/ui_password).
    outer:
      entryPoints: [outer]
      rule: "PathPrefix(`/`)"
      service: prefect
      middlewares: [users]
      tls: {{}}
  middlewares:
    users:
      basicAuth:
        usersFile: /run/secrets/ui_users
        removeHeader: true
  services:
    prefect:
      loadBalancer:
        servers:
{servers}        # A server that does not answer gets nothing until it does.
        healthCheck:
          path: /api/health
          interval: 5s
          timeout: 3s
"""


def _api_route() -> str:
    return f"""{_MADE}# The control API at https://THIS-HOST:8443/v1/: TLS from here, tokens by itself.
http:
  routers:
    # No password before it: that would take the header in which clients send their token.
    api:
      entryPoints: [outer]
      rule: "PathPrefix(`/v1/`)"
      # Before the pages, whose rule fits everything.
      priority: 1000
      service: api
      tls: {{}}
  services:
    api:
      loadBalancer:
        servers:
          - url: "http://api:{API_PORT}"
        # At the port of its health: the API itself answers only to the names that it is known by. Live, not ready:
        # what is amiss while the database is away, it says better itself.
        healthCheck:
          path: /health/live
          port: {BASE_PORT + directory.OFFSETS["api"]}
          interval: 5s
          timeout: 3s
"""


_WHEELS: Final = "Wheels in this folder are preferred when images are built (`make release-check` makes one).\n"
_ENVIRONMENT: Final = f"""# Read by docker compose; yours from now on. Nothing secret is in here.
# What runs: minimal, or full; add gpu (and its pool in ironclad.toml), observability, clamav, separated by commas.
COMPOSE_PROFILES=minimal
# A folder of this host for songs, library and archive, owned by {UID}:{UID}; by default one of Docker's volumes.
# IRONCLAD_DATA=/srv/ironclad
# minimal or full, as above: which of the two secrets/ folders is used.
IRONCLAD_PARTS=minimal
# Where browsers reach Prefect: with full, https://THIS-HOST:8443.
IRONCLAD_UI_URL=http://127.0.0.1:{PREFECT_PORT}
# With full: the address on which 8443 (TLS and password) is published.
IRONCLAD_PUBLISH=127.0.0.1
# With full: the names by which clients call the control API (https://NAME:8443/v1/), as a JSON list.
IRONCLAD_API_HOSTS='["localhost"]'
# Of each worker; 0 is no limit of processors.
IRONCLAD_WORKER_MEMORY=8g
IRONCLAD_WORKER_CPUS=0
"""
_TRAEFIK: Final = f"""{_MADE}global: {{checkNewVersion: false, sendAnonymousUsage: false}}
entryPoints:
  inner: {{address: ":{INNER_PORT}"}}
  # A song that is sent may take longer than the minute that traefik gives a request by default.
  outer: {{address: ":8443", transport: {{respondingTimeouts: {{readTimeout: 1h}}}}}}
  ping: {{address: "127.0.0.1:8082"}}
ping: {{entryPoint: ping}}
providers:
  file: {{directory: /etc/traefik/routes}}
log: {{level: WARN, format: json}}
"""
_GRAFANA: Final = f"""{_MADE}apiVersion: 1
datasources:
  - name: Prometheus
    uid: prometheus
    type: prometheus
    access: proxy
    url: http://prometheus:9090
    isDefault: true
  - name: Loki
    uid: loki
    type: loki
    access: proxy
    url: http://loki:3100
"""
_LOKI: Final = f"""{_MADE}auth_enabled: false
server: {{http_listen_port: 3100}}
common:
  path_prefix: /loki
  replication_factor: 1
  ring: {{kvstore: {{store: inmemory}}}}
  storage: {{filesystem: {{chunks_directory: /loki/chunks, rules_directory: /loki/rules}}}}
schema_config:
  configs:
    - {{from: "2024-01-01", store: tsdb, object_store: filesystem, schema: v13, index: {{prefix: index_, period: 24h}}}}
limits_config: {{retention_period: 720h}}
compactor: {{working_directory: /loki/compactor, retention_enabled: true, delete_request_store: filesystem}}
analytics: {{reporting_enabled: false}}
"""
# Few and bounded labels; job, user and trace stay in the line.
_ALLOY: Final = f"""{_MADE.replace("#", "//", 1)}local.file_match "jobs" {{
  path_targets = [{{"__path__" = "{DATA}/logs/jobs/*.jsonl", "job" = "ironclad-jobs"}}]
}}

loki.source.file "jobs" {{
  targets    = local.file_match.jobs.targets
  forward_to = [loki.process.ironclad.receiver]
}}

loki.process "ironclad" {{
  stage.json {{
    expressions = {{"service" = "service", "level" = "level", "at" = "at"}}
  }}
  stage.labels {{
    values = {{"service" = "", "level" = ""}}
  }}
  stage.timestamp {{
    source = "at"
    format = "RFC3339Nano"
  }}
  forward_to = [loki.write.here.receiver]
}}

loki.write "here" {{
  endpoint {{
    url = "http://loki:3100/loki/api/v1/push"
  }}
}}
// """  # the seal follows, which is a comment in most other languages only
_CLAMD: Final = f"""{_MADE}# For larger files raise the three sizes, and virus.max_bytes in ironclad.toml.
Foreground yes
LocalSocket {CLAMAV_RUN}/clamd.sock
LocalSocketMode 666
DatabaseDirectory /var/lib/clamav
User clamav
StreamMaxLength 101M
MaxFileSize 101M
MaxScanSize 400M
# Beyond a limit it says so, instead of OK.
AlertExceedsMax yes
# New signatures replace the old ones in place, instead of beside them in memory.
ConcurrentDatabaseReload no
"""
_PROVIDER: Final = f"""{_MADE}apiVersion: 1
providers:
  - name: ironclad
    folder: Ironclad
    type: file
    options: {{path: /etc/grafana/ironclad}}
"""
_DOCKERFILE: Final = f"""{_MADE}# base: no machine learning. cpu, gpu: Demucs; PyTorch is in an environment of its own.
# Some stages build, others run: no compiler, no pip cache and no secret is in what runs.
FROM python:3.12-slim-bookworm AS build
ARG VERSION
COPY wheels/ /wheels/
RUN python -m venv /opt/ironclad \\
 && /opt/ironclad/bin/pip install --no-cache-dir --find-links /wheels "ironclad-audio[redis,vault]==$VERSION"

FROM build AS build-engine
RUN /opt/ironclad/bin/pip install --no-cache-dir --find-links /wheels ironclad-engine-demucs

FROM python:3.12-slim-bookworm AS base
RUN apt-get update && apt-get install -y --no-install-recommends tini && rm -rf /var/lib/apt/lists/* \\
 && useradd --uid {UID} --user-group --no-create-home --home-dir {DATA} ironclad \\
 && install -d -o ironclad -g ironclad -m 0750 {DATA} {DATA}/engines
COPY --from=build /opt/ironclad /opt/ironclad
ENV PATH=/opt/ironclad/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 HOME=/tmp
USER {UID}:{UID}
WORKDIR {DATA}
# Process 1 must collect the dead and pass signals on.
ENTRYPOINT ["/usr/bin/tini", "--", "/opt/ironclad/bin/ironclad"]
CMD ["--help"]

FROM base AS cpu
COPY --from=build-engine /opt/ironclad /opt/ironclad
RUN ironclad --data-dir {DATA} engines install demucs --extra-index https://download.pytorch.org/whl/cpu

FROM base AS gpu
COPY --from=build-engine /opt/ironclad /opt/ironclad
# PyTorch's own packages bring CUDA; the host brings the driver, by the NVIDIA container toolkit.
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
RUN ironclad --data-dir {DATA} engines install demucs
"""
