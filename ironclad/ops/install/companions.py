"""Services of others in the compose project: Redis and traefik, what shows metrics and logs, the virus scanner."""

from __future__ import annotations

from typing import Final

from ironclad.ops.install.recipes import CLAMAV_RUN, DATA, UID


def _filled(text: str) -> str:
    return text.replace("@UID@", str(UID)).replace("@DATA@", DATA).replace("@CLAMAV_RUN@", CLAMAV_RUN)


FULL: Final = """
  redis:
    image: redis:7.4-alpine
    profiles: ["full"]
    restart: unless-stopped
    # Messages between the Prefect servers: small, and made anew when lost; our own queue is in PostgreSQL.
    command: ["redis-server", "/run/secrets/redis_conf"]
    user: "999:1000"
    read_only: true
    cap_drop: [ALL]
    security_opt: ["no-new-privileges:true"]
    secrets: [redis_conf]
    volumes: ["redis:/data"]
    networks: [inside]
    mem_limit: 512m
    cpus: 1.0
    healthcheck:
      test: ["CMD", "redis-cli", "ping"]
      interval: 5s
      timeout: 5s
      retries: 12

  traefik:
    image: traefik:v3.5
    profiles: ["full"]
    restart: unless-stopped
    # Routes are files: it needs no Docker socket, which would be the whole host.
    command: ["--configFile=/etc/traefik/traefik.yaml"]
    user: "65532:65532"
    read_only: true
    tmpfs: [/tmp]
    cap_drop: [ALL]
    security_opt: ["no-new-privileges:true"]
    secrets: [ui_users]
    volumes: ["./traefik/traefik.yaml:/etc/traefik/traefik.yaml:ro", "./traefik/routes:/etc/traefik/routes:ro"]
    networks: [inside, outside]
    # TLS and a password; another address than this host's own is for you to choose (.env).
    ports: ["${IRONCLAD_PUBLISH:-127.0.0.1}:8443:8443"]
    mem_limit: 256m
    cpus: 1.0
    healthcheck:
      test: ["CMD", "traefik", "healthcheck", "--configFile=/etc/traefik/traefik.yaml"]
      interval: 15s
      timeout: 5s
      retries: 4
"""
OBSERVABILITY: Final = _filled("""
  prometheus:
    image: prom/prometheus:v3.5.0
    profiles: ["observability"]
    restart: unless-stopped
    read_only: true
    cap_drop: [ALL]
    security_opt: ["no-new-privileges:true"]
    networks: [inside, outside]
    ports: ["127.0.0.1:9090:9090"]
    volumes:
      - "./prometheus.yml:/etc/prometheus/prometheus.yml:ro"
      - "./observability/prometheus:/etc/prometheus/rules:ro"
      - "prometheus:/prometheus"
    mem_limit: 1g
    cpus: 1.0
    healthcheck:
      test: ["CMD", "promtool", "check", "healthy"]
      interval: 15s
      timeout: 5s
      retries: 4

  grafana:
    image: grafana/grafana:12.1.0
    profiles: ["observability"]
    restart: unless-stopped
    read_only: true
    tmpfs: [/tmp]
    cap_drop: [ALL]
    security_opt: ["no-new-privileges:true"]
    secrets: [grafana_password]
    environment:
      GF_SECURITY_ADMIN_PASSWORD__FILE: /run/secrets/grafana_password
      # Nothing is told to anybody.
      GF_ANALYTICS_REPORTING_ENABLED: "false"
      GF_ANALYTICS_CHECK_FOR_UPDATES: "false"
      GF_ANALYTICS_CHECK_FOR_PLUGIN_UPDATES: "false"
      GF_PLUGINS_PREINSTALL_DISABLED: "true"
    volumes:
      - "./grafana:/etc/grafana/provisioning:ro"
      - "./observability/dashboards:/etc/grafana/ironclad:ro"
      - "grafana:/var/lib/grafana"
    networks: [inside, outside]
    ports: ["127.0.0.1:3000:3000"]
    mem_limit: 512m
    cpus: 1.0
    healthcheck:
      test: ["CMD", "curl", "--fail", "--silent", "http://127.0.0.1:3000/api/health"]
      interval: 15s
      timeout: 5s
      retries: 4

  loki:
    image: grafana/loki:3.4.3
    profiles: ["observability"]
    restart: unless-stopped
    command: ["-config.file=/etc/loki/loki.yaml"]
    read_only: true
    tmpfs: [/tmp]
    cap_drop: [ALL]
    security_opt: ["no-new-privileges:true"]
    volumes: ["./loki/loki.yaml:/etc/loki/loki.yaml:ro", "loki:/loki"]
    networks: [inside]
    mem_limit: 1g
    cpus: 1.0
    healthcheck:
      test: ["CMD", "wget", "--quiet", "--spider", "http://127.0.0.1:3100/ready"]
      interval: 15s
      timeout: 5s
      retries: 4
      start_period: 60s

  # Sends the jobs' logs to Loki. It reads files of the data volume: it needs no Docker socket, which would be the whole
  # host. What services write to standard output stays with Docker (`docker compose logs`).
  alloy:
    image: grafana/alloy:v1.8.3
    profiles: ["observability"]
    restart: unless-stopped
    command:
      - run
      - --disable-reporting
      - --server.http.listen-addr=127.0.0.1:12345
      - --storage.path=/var/lib/alloy
      - /etc/alloy/config.alloy
    user: "@UID@:@UID@"
    read_only: true
    # After a restart it reads what is there again; Loki takes the same line once.
    tmpfs: [/tmp, "/var/lib/alloy:uid=@UID@,gid=@UID@,mode=0750"]
    cap_drop: [ALL]
    security_opt: ["no-new-privileges:true"]
    volumes: ["${IRONCLAD_DATA:-data}:@DATA@:ro", "./alloy/config.alloy:/etc/alloy/config.alloy:ro"]
    networks: [inside]
    mem_limit: 512m
    cpus: 0.5
    depends_on:
      loki: {condition: service_healthy}
    healthcheck:
      test: ["CMD", "bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/12345"]
      interval: 15s
      timeout: 5s
      retries: 4
""")
CLAMAV: Final = _filled("""
  # The workers ask it by the socket that they share (docs/security.md#viruses), once ironclad.toml says
  # [virus] socket = "@CLAMAV_RUN@/clamd.sock".
  clamav:
    image: clamav/clamav:1.4
    profiles: ["clamav"]
    restart: unless-stopped
    # Its entry point changes owners and then gives up root, so that it keeps its capabilities.
    security_opt: ["no-new-privileges:true"]
    volumes: ["clamav:/var/lib/clamav", "clamav-run:@CLAMAV_RUN@", "./clamav/clamd.conf:/etc/clamav/clamd.conf:ro"]
    # Fresh signatures come from outside; no file of ours goes there.
    networks: [inside, outside]
    mem_limit: 3g
    cpus: 1.0
    healthcheck:
      test: ["CMD", "clamdscan", "--ping", "1"]
      interval: 30s
      timeout: 10s
      retries: 4
      # The first start fetches all signatures.
      start_period: 600s
""")
