"""The compose project: valid by the Compose Specification's schema, and true to the settings and the command line.

`compose_spec/` holds the specification's JSON schema as docker-compose 1.29.2 carries it (Apache License 2.0, there).
"""

from __future__ import annotations

import base64
import fnmatch
import hashlib
import json
import re
import shlex
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from uuid import UUID

import jsonschema
import pytest
import scanner
import yaml

from ironclad.cli.main import COMMANDS
from ironclad.config import load
from ironclad.ops import directory, prepare
from ironclad.ops.health import HealthBoard
from ironclad.ops.install import compose, files, recipes
from ironclad.ops.metrics import Metrics
from ironclad.ops.reports import Reports
from ironclad.ops.services import registry
from ironclad.sandbox import clamd

if TYPE_CHECKING:
    from collections.abc import Callable

    from typer.testing import Result

ROOT = Path(__file__).parents[3]
SPEC = json.loads((Path(__file__).parent / "compose_spec/compose_spec.json").read_text(encoding="utf-8"))
PROJECT: dict[str, Any] = yaml.safe_load(compose.render(compose.Project(drain_seconds=90))[Path("compose.yaml")])
OURS = {name: service for name, service in PROJECT["services"].items() if "ironclad" in service["image"]}
THEIRS = {name: service for name, service in PROJECT["services"].items() if name not in OURS}
SERVICES = sorted({*OURS} - {"schema"})
PATHS = Reports("watch", HealthBoard(), Metrics("watch"), dict).paths()


def like(name: str) -> str:
    """The service that a second one of its kind is like."""
    return name.removesuffix("-2")


def problems(project: dict[str, Any]) -> list[str]:
    plain = {name: value for name, value in project.items() if not name.startswith("x-")}
    return [error.message for error in jsonschema.Draft7Validator(SPEC).iter_errors(plain)]


def resolved(value: str) -> str:
    """A value as compose gives it to a container where `.env` is as it was written."""
    env = compose.initial(compose.Project())[Path(".env")]
    own = {name: text.strip("'") for name, text in re.findall(r"^(\w+)=(.*)$", env, re.MULTILINE)}
    return re.sub(r"\$\{(\w+):-([^}]*)\}", lambda found: own.get(found[1], found[2]), str(value))


def settings_of(service: dict[str, Any], tmp_path: Path, parts: str = "minimal") -> Any:
    """What a service would read: its environment and its secrets, on a settings file that is there."""
    toml = tmp_path / "ironclad.toml"
    first = compose.initial(compose.Project(gpu_slots=int("gpu" in service.get("profiles", ()))))
    toml.write_text(first[Path("ironclad.toml")], encoding="utf-8")
    for name in service["secrets"]:
        file = PROJECT["secrets"][name]["file"].replace("${IRONCLAD_PARTS:-minimal}", parts)
        (tmp_path / name).write_text(first[Path(file)], encoding="utf-8")
    given = {name: resolved(value) for name, value in service["environment"].items()}
    environment = {**given, "IRONCLAD_CONFIG": str(toml), "IRONCLAD_SECRETS_DIR": str(tmp_path)}
    return load(environ={name: value for name, value in environment.items() if name.startswith("IRONCLAD_")})


def test_it_is_valid_by_the_specification() -> None:
    assert problems(PROJECT) == []


@pytest.mark.parametrize("typo", ["healtcheck", "depend_on", "secret"])
def test_the_schema_notices_a_typo(typo: str) -> None:
    wrong = {**PROJECT, "services": {"watch": {**PROJECT["services"]["watch"], typo: {}}}}
    assert problems(wrong)


@pytest.mark.parametrize("name", SERVICES)
def test_each_service_runs_what_there_is_with_settings_that_are(name: str, tmp_path: Path) -> None:
    service = OURS[name]
    words = service["command"]
    assert words[0] == "run"
    assert "run" in {entry.name for entry in COMMANDS}
    called = f"worker-{words[3]}" if words[1] == "worker" else words[1]
    settings = settings_of(service, tmp_path)
    assert called == like(name)
    assert registry.load(called, settings).name == called
    assert settings.database_url is not None
    address = urlsplit(settings.database_url.get_secret_value())
    assert address.hostname in PROJECT["services"]
    assert address.username == PROJECT["services"]["postgres"]["environment"]["POSTGRES_USER"]
    assert urlsplit(settings.prefect.api_url).hostname == "prefect"
    full = settings_of(service, tmp_path, "full")
    assert urlsplit(full.prefect.api_url).hostname == "traefik"
    if called == "prefect":
        assert settings.prefect.redis_url is None
        assert urlsplit(full.prefect.redis_url.get_secret_value()).hostname == "redis"


def test_only_pools_that_somebody_works_for_are_declared(tmp_path: Path) -> None:
    """An engine that can use a GPU is given to the pool `gpu` where there is one, worker or not."""
    assert set(settings_of(OURS["dispatch"], tmp_path).pools) == {"cpu"}
    toml = compose.initial(compose.Project(slots=3))[Path("ironclad.toml")]
    assert tomllib.loads(toml) == {"pools": {"cpu": {"slots": 3}}}
    with_gpu = {"pools": {"cpu": {"slots": 3}, "gpu": {"slots": 1}}}
    assert tomllib.loads(re.sub(r"^# (?=\[|slots)", "", toml, flags=re.MULTILINE)) == with_gpu
    assert tomllib.loads(compose.initial(compose.Project(slots=3, gpu_slots=1))[Path("ironclad.toml")]) == with_gpu


def test_the_pools_are_those_of_the_settings_in_force(run: Callable[..., Result], tmp_path: Path) -> None:
    for number, pools in enumerate(({"cpu": {"slots": 5}}, {"cpu": {"slots": 2}, "gpu": {"slots": 4}})):
        folder = tmp_path / f"project-{number}"
        assert run("install", "compose", "--dir", folder, IRONCLAD_POOLS=json.dumps(pools)).exit_code == 0
        assert tomllib.loads((folder / "ironclad.toml").read_text(encoding="utf-8")) == {"pools": pools}


@pytest.mark.parametrize("name", SERVICES)
def test_each_healthcheck_asks_an_endpoint_that_there_is(name: str, tmp_path: Path) -> None:
    service = OURS[name]
    mode, program, flag, code = service["healthcheck"]["test"]
    assert (mode, program, flag) == ("CMD", "/opt/ironclad/bin/python", "-c")
    compile(code, "healthcheck", "exec")
    address = re.search(r"'(http://127\.0\.0\.1:(\d+)(/[a-z/]+))'", code)
    assert address is not None
    assert int(address[2]) == directory.port_of(like(name), settings_of(service, tmp_path))
    assert address[3] in PATHS


def test_the_schema_task_is_one_that_there_is() -> None:
    _, _, python = OURS["schema"]["entrypoint"]
    module, task = OURS["schema"]["command"][1:]
    assert python.endswith("/python")
    assert module == prepare.__name__
    assert prepare._task([task]) is prepare.migrate


@pytest.mark.parametrize("name", sorted(OURS))
def test_containers_are_confined(name: str) -> None:
    service = OURS[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["user"] == "10001:10001"
    wanted = ["database_url", "prefect__api_url"] + (["prefect__redis_url"] if like(name) == "prefect" else [])
    assert service["secrets"] == wanted
    assert not any("password" in str(value).lower() for value in service["environment"].values())


@pytest.mark.parametrize("name", sorted(THEIRS))
def test_containers_of_others_are_confined_as_far_as_their_images_allow(name: str) -> None:
    service = THEIRS[name]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["restart"] == "unless-stopped"
    assert service["healthcheck"]["test"][0] == "CMD"
    assert re.fullmatch(r"[a-z/]+:v?\d[\w.-]*", service["image"]), "a tag, never latest"
    if name not in {"postgres", "clamav"}:  # their entry points change the owner of their files
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
    for variable, value in service.get("environment", {}).items():
        assert "PASSWORD" not in variable or value.startswith("/run/secrets/")


@pytest.mark.parametrize("name", sorted(PROJECT["services"]))
def test_limits_are_set(name: str) -> None:
    service = PROJECT["services"][name]
    assert "mem_limit" in service
    assert "cpus" in service
    if name in SERVICES:
        seconds = int(service["stop_grace_period"].rstrip("s"))
        assert seconds >= (110 if name.startswith("worker") else 30)


def test_only_what_is_published_on_this_host_leaves_the_inner_network() -> None:
    assert PROJECT["networks"]["inside"]["internal"] is True
    for service in PROJECT["services"].values():
        # The notifier's mail and chat servers are outside, and the scanner's signatures; they publish nothing.
        calls_out = service.get("command") == ["run", "notify"] or service is THEIRS["clamav"]
        assert ("ports" in service) == ("outside" in service["networks"]) or calls_out
        assert all(
            port.startswith(("127.0.0.1:", "${IRONCLAD_PUBLISH:-127.0.0.1}:")) for port in service.get("ports", [])
        )


def test_prometheus_scrapes_every_service_where_it_answers(tmp_path: Path) -> None:
    config = yaml.safe_load(compose.render(compose.Project())[Path("prometheus.yml")])
    (job,) = config["scrape_configs"]
    settings = settings_of(OURS["watch"], tmp_path)
    wanted = {f"{name}:{directory.port_of(like(name), settings)}": name for name in SERVICES}
    assert {one["targets"][0]: one["labels"]["service"] for one in job["static_configs"]} == wanted
    assert "/metrics" in PATHS
    source = yaml.safe_load(compose.render(compose.Project())[Path("grafana/datasources/prometheus.yaml")])
    assert urlsplit(source["datasources"][0]["url"]).hostname in PROJECT["services"]


@pytest.mark.skipif(shutil.which("promtool") is None, reason="there is no promtool here")
def test_prometheus_accepts_its_configuration(tmp_path: Path) -> None:
    rendered = compose.render(compose.Project())
    text = rendered[Path("prometheus.yml")].replace("/etc/prometheus/rules", str(tmp_path))
    (tmp_path / "prometheus.yml").write_text(text, "utf-8")
    for name in recipes.RULES:
        (tmp_path / name).write_text(rendered[Path("observability/prometheus") / name], "utf-8")
    done = subprocess.run(
        ["promtool", "check", "config", tmp_path / "prometheus.yml"], capture_output=True, text=True, check=False,
        timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_dashboards_are_where_grafana_looks() -> None:
    provider = yaml.safe_load(compose.render(compose.Project())[Path("grafana/dashboards/ironclad.yaml")])
    path = provider["providers"][0]["options"]["path"]
    assert f"./observability/dashboards:{path}:ro" in THEIRS["grafana"]["volumes"]
    boards = [one for one in compose.initial(compose.Project()) if one.parts[:2] == ("observability", "dashboards")]
    assert len(boards) >= 5
    for board in boards:
        json.loads(compose.initial(compose.Project())[board])


def test_the_jobs_logs_reach_loki_and_grafana(tmp_path: Path) -> None:
    rendered = compose.render(compose.Project())
    text = rendered[Path("alloy/config.alloy")]
    (pattern,) = re.findall(r'"__path__" = "([^"]+)"', text)
    job_log = settings_of(OURS["worker-cpu"], tmp_path).layout.job_log(UUID(int=1))
    assert fnmatch.fnmatch(str(job_log), pattern)
    assert any(volume.endswith(":/var/lib/ironclad:ro") for volume in THEIRS["alloy"]["volumes"])
    port = yaml.safe_load(rendered[Path("loki/loki.yaml")])["server"]["http_listen_port"]
    (push,) = re.findall(r'url = "([^"]+)"', text)
    sources = yaml.safe_load(rendered[Path("grafana/datasources/prometheus.yaml")])["datasources"]
    (shown,) = (one["url"] for one in sources if one["type"] == "loki")
    for address in (urlsplit(push), urlsplit(shown)):
        assert (address.hostname in THEIRS, address.port) == (True, port)
    comments = [line for line in files.sealed(text).splitlines() if "#" in line]
    assert comments
    assert all(line.startswith("//") for line in comments), "in this language # begins no comment"


def test_the_scanner_reads_what_is_believed_of_it_and_answers_where_workers_look(tmp_path: Path) -> None:
    text = compose.render(compose.Project())[Path("clamav/clamd.conf")]
    conf = dict(line.split(maxsplit=1) for line in text.splitlines() if line and not line.startswith("#"))
    limits = {
        name: int(conf[name].removesuffix("M")) << 20 for name in ("StreamMaxLength", "MaxFileSize", "MaxScanSize")
    }
    assert min(limits.values()) > settings_of(OURS["worker-cpu"], tmp_path).virus.max_bytes
    assert conf["AlertExceedsMax"] == "yes"
    folder = str(Path(conf["LocalSocket"]).parent)
    assert f"clamav-run:{folder}" in THEIRS["clamav"]["volumes"]
    for name in ("worker-cpu", "worker-gpu"):
        assert f"clamav-run:{folder}:ro" in OURS[name]["volumes"]
    assert not any(key.startswith("TCP") for key in conf), "over TCP it knows no password"


@pytest.mark.skipif(scanner.program() is None, reason="ClamAV's clamd is not installed")
def test_the_scanner_accepts_its_configuration(tmp_path: Path) -> None:
    text = compose.render(compose.Project())[Path("clamav/clamd.conf")]
    given = dict(line.split(maxsplit=1) for line in text.splitlines() if line and not line.startswith("#"))
    own = {"LocalSocket", "DatabaseDirectory", "User", "Foreground"}
    with scanner.running(**{key: value for key, value in given.items() if key not in own}) as path:
        assert clamd.Clamd(path).self_test() == ""
        assert "was not scanned" in clamd.Clamd(path, max_bytes=120 << 20).self_test()


def test_traefik_leads_to_both_servers_and_asks_people_for_a_password() -> None:
    rendered = compose.render(compose.Project())
    static = yaml.safe_load(rendered[Path("traefik/traefik.yaml")])
    http = yaml.safe_load(rendered[Path("traefik/routes/prefect.yaml")])["http"]
    servers = {urlsplit(one["url"]) for one in http["services"]["prefect"]["loadBalancer"]["servers"]}
    assert {(server.hostname, server.port) for server in servers} == {("prefect", 4200), ("prefect-2", 4200)}
    outer = http["routers"]["outer"]
    assert "tls" in outer
    (name,) = outer["middlewares"]
    users = Path(http["middlewares"][name]["basicAuth"]["usersFile"]).name
    assert users in THEIRS["traefik"]["secrets"]
    for router in http["routers"].values():
        assert {*router["entryPoints"]} <= {*static["entryPoints"]}
    assert "docker" not in static["providers"]
    published = [port.split(":")[-1] for port in THEIRS["traefik"]["ports"]]
    assert [f":{port}" for port in published] == [static["entryPoints"]["outer"]["address"]]
    inner = urlsplit(compose.initial(compose.Project())[Path("secrets/full/prefect__api_url")])
    assert f":{inner.port}" == static["entryPoints"]["inner"]["address"]


def test_traefik_leads_to_the_api_by_tls_and_leaves_tokens_to_it(tmp_path: Path) -> None:
    rendered = compose.render(compose.Project())
    static = yaml.safe_load(rendered[Path("traefik/traefik.yaml")])
    pages = yaml.safe_load(rendered[Path("traefik/routes/prefect.yaml")])["http"]
    http = yaml.safe_load(rendered[Path("traefik/routes/api.yaml")])["http"]
    (router,) = http["routers"].values()
    assert router["entryPoints"] == ["outer"]
    assert "tls" in router
    assert "middlewares" not in router, "a password would take the header of the token"
    assert router["priority"] > max(len(one["rule"]) for one in pages["routers"].values())
    assert router["rule"] == "PathPrefix(`/v1/`)"
    settings = settings_of(OURS["api"], tmp_path)
    (server,) = http["services"][router["service"]]["loadBalancer"]["servers"]
    assert server["url"] == f"http://api:{settings.api.port}"
    health = http["services"][router["service"]]["loadBalancer"]["healthCheck"]
    assert (health["path"] in PATHS, health["port"]) == (True, directory.port_of("api", settings))
    assert static["entryPoints"]["outer"]["transport"]["respondingTimeouts"]["readTimeout"] == "1h"


def test_the_api_is_reached_by_traefik_alone_under_names_that_the_operator_gives(tmp_path: Path) -> None:
    service = OURS["api"]
    assert service["networks"] == ["inside"]
    assert "ports" not in service
    settings = settings_of(service, tmp_path)
    assert settings.api.host == "0.0.0.0"  # noqa: S104 - of the container
    assert settings.api.allowed_hosts == ("localhost",)
    variable = service["environment"]["IRONCLAD_API__ALLOWED_HOSTS"]
    assert resolved(variable) == resolved(variable.replace("IRONCLAD_API_HOSTS", "NOT_IN_ENV")), (
        "two places, one default"
    )


def test_the_password_of_the_interface_is_the_one_that_is_asked_for() -> None:
    first = compose.initial(compose.Project())
    user, _, hashed = first[Path("secrets/ui_users")].strip().partition(":{SHA}")
    password = first[Path("secrets/ui_password")].strip()
    assert user == "ironclad"
    assert base64.b64decode(hashed) == hashlib.sha1(password.encode(), usedforsecurity=False).digest()
    redis = first[Path("secrets/full/prefect__redis_url")]
    assert urlsplit(redis.strip()).password == first[Path("secrets/redis_conf")].split()[1]
    values = [text for path, text in first.items() if path.parts[0] == "secrets" and text]
    assert len({*values}) == len(values)


def test_variables_of_the_project_have_a_default_or_are_in_its_env_file() -> None:
    text = compose.render(compose.Project())[Path("compose.yaml")]
    given = set(re.findall(r"^(\w+)=", compose.initial(compose.Project())[Path(".env")], re.MULTILINE))
    used = set(re.findall(r"\$\{(\w+)(?::-[^}]+)?\}", text))
    assert set(re.findall(r"\$\{(\w+)\}", text)) == set()
    assert given - {"COMPOSE_PROFILES"} <= used


def test_profiles() -> None:
    by_profile = {name: service.get("profiles", []) for name, service in PROJECT["services"].items()}
    assert {name: profiles for name, profiles in by_profile.items() if profiles} == {
        "prefect-2": ["full"], "redis": ["full"], "traefik": ["full"], "worker-gpu": ["gpu"],
        "prometheus": ["observability"], "grafana": ["observability"], "loki": ["observability"],
        "alloy": ["observability"], "clamav": ["clamav"], "api": ["full"],
    }  # fmt: skip


def test_the_api_is_given_its_time_to_stop(run: Callable[..., Result], tmp_path: Path) -> None:
    assert run("install", "compose", "--dir", tmp_path, IRONCLAD_API__STOP_SECONDS="300").exit_code == 0
    written = yaml.safe_load((tmp_path / "compose.yaml").read_text(encoding="utf-8"))
    assert int(written["services"]["api"]["stop_grace_period"].rstrip("s")) > 300


def test_what_is_named_is_defined() -> None:
    volumes = [volume for service in PROJECT["services"].values() for volume in service.get("volumes", [])]
    named = {volume.split(":")[0] for volume in volumes if not volume.startswith((".", "$"))} | {"data"}
    assert named == {*PROJECT["volumes"]}
    assert {name for service in PROJECT["services"].values() for name in service.get("secrets", [])} == {
        *PROJECT["secrets"]
    }
    first = compose.initial(compose.Project())
    for secret in PROJECT["secrets"].values():
        for parts in ("minimal", "full"):
            assert Path(secret["file"].replace("${IRONCLAD_PARTS:-minimal}", parts)) in first
    networks = {name for service in PROJECT["services"].values() for name in service["networks"]}
    assert networks == {*PROJECT["networks"]}
    written = {*compose.render(compose.Project()), *first}
    for volume in volumes:
        if volume.startswith("./"):
            source = Path(volume.split(":")[0])
            assert any(path == source or source in path.parents for path in written), volume
    for service in PROJECT["services"].values():
        assert {*service.get("depends_on", {})} <= {*PROJECT["services"]}


def instructions() -> list[list[str]]:
    text = compose.render(compose.Project())[Path("Dockerfile")].replace("\\\n", " ")
    return [shlex.split(line) for line in text.splitlines() if line and not line.startswith("#")]


def stages() -> dict[str, list[list[str]]]:
    """The recipe's stages by name, each beginning with its FROM line."""
    found: dict[str, list[list[str]]] = {}
    for line in instructions():
        if line[0] == "FROM":
            found[line[3]] = current = []
        current.append(line)
    return found


def test_each_need_has_an_image_that_only_runs_and_holds_no_secret() -> None:
    images = stages()
    known = {"FROM", "ARG", "COPY", "RUN", "ENV", "USER", "WORKDIR", "ENTRYPOINT", "CMD"}
    assert {line[0] for line in instructions()} <= known
    assert ["USER", "10001:10001"] in images["base"]
    (entry,) = [line for line in images["base"] if line[0] == "ENTRYPOINT"]
    assert "/usr/bin/tini" in entry[1]
    for name in ("base", "cpu", "gpu"):
        assert not any(word in str(images[name]) for word in ("secret", "password", "gcc", "USER root"))
        assert images[name][0][1] == ("python:3.12-slim-bookworm" if name == "base" else "base")
    assert "demucs" not in str(images["base"])
    assert ["COPY", "wheels/", "/wheels/"] in images["build"]
    targets = {service["image"]: service["build"]["target"] for service in OURS.values()}
    version = PROJECT["x-ironclad"]["image"].partition(":")[2]
    assert targets == {f"ironclad-audio{'' if one == 'base' else f'-{one}'}:{version}": one for one in targets.values()}
    assert {*targets.values()} == {"base", "cpu", "gpu"}


@pytest.mark.parametrize("name", ["cpu", "gpu"])
def test_engines_are_built_by_a_command_that_there_is_where_their_volume_is(name: str) -> None:
    (line,) = [line for line in stages()[name] if line[:2] == ["RUN", "ironclad"]]
    assert line[2:4] == ["--data-dir", "/var/lib/ironclad"]
    command = next(entry for entry in COMMANDS if entry.name == line[4]).load().commands[line[5]]
    known = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in line if word.startswith("--")} <= known | {"--data-dir"}
    assert f"engines-{name}:/var/lib/ironclad/engines" in OURS[f"worker-{name}"]["volumes"]


def test_the_files_in_deploy_are_what_the_command_writes() -> None:
    written = {str(path): files.sealed(text) for path, text in compose.render(compose.Project()).items()}
    folder = ROOT / "deploy/compose"
    found = {
        str(path.relative_to(folder)): path.read_text(encoding="utf-8") for path in folder.rglob("*") if path.is_file()
    }
    assert found == written, "run `python tests/unit/deploy/regenerate.py`"


def test_passwords_are_fresh_agree_and_stay(run: Callable[..., Result], tmp_path: Path) -> None:
    folder = tmp_path / "project"
    first = run("install", "compose", "--dir", folder)
    assert first.exit_code == 0, first.stderr
    password = (folder / "secrets/postgres_password").read_text().strip()
    assert len(password) >= 32
    assert password in (folder / "secrets/database_url").read_text()
    assert password not in first.stdout
    assert (folder / "secrets").stat().st_mode & 0o777 == 0o700
    for path in folder.rglob("*"):
        if path.is_file() and path.parent.name != "secrets":
            assert password not in path.read_text(encoding="utf-8")
    again = run("install", "compose", "--dir", folder, "--json")
    assert {row["outcome"] for row in json.loads(again.stdout)["files"]} == {"unchanged"}
    assert (folder / "secrets/postgres_password").read_text().strip() == password
    other = run("install", "compose", "--dir", tmp_path / "other", "--dry-run")
    assert "postgresql://" not in other.stdout
    assert not (tmp_path / "other").exists()
