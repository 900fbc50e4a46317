"""The compose project: valid by the Compose Specification's schema, and true to the settings and the command line.

`compose_spec/` holds the specification's JSON schema as docker-compose 1.29.2 carries it (Apache License 2.0, there).
"""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import jsonschema
import pytest
import yaml

from ironclad.cli.main import COMMANDS
from ironclad.config import load
from ironclad.ops import directory, prepare
from ironclad.ops.health import HealthBoard
from ironclad.ops.install import compose, files
from ironclad.ops.metrics import Metrics
from ironclad.ops.reports import Reports
from ironclad.ops.services import registry

if TYPE_CHECKING:
    from collections.abc import Callable

    from typer.testing import Result

ROOT = Path(__file__).parents[3]
SPEC = json.loads((Path(__file__).parent / "compose_spec/compose_spec.json").read_text(encoding="utf-8"))
PROJECT: dict[str, Any] = yaml.safe_load(compose.render(compose.Project(drain_seconds=90))[Path("compose.yaml")])
OURS = {name: service for name, service in PROJECT["services"].items() if "ironclad" in service["image"]}
SERVICES = sorted({*OURS} - {"schema"})
PATHS = Reports("watch", HealthBoard(), Metrics("watch"), dict).paths()


def problems(project: dict[str, Any]) -> list[str]:
    plain = {name: value for name, value in project.items() if not name.startswith("x-")}
    return [error.message for error in jsonschema.Draft7Validator(SPEC).iter_errors(plain)]


def settings_of(service: dict[str, Any], tmp_path: Path) -> Any:
    """What a service would read: its environment and its secrets, on a settings file that is there."""
    toml = tmp_path / "ironclad.toml"
    toml.write_text(compose.initial(compose.Project())[Path("ironclad.toml")], encoding="utf-8")
    for name in service["secrets"]:
        (tmp_path / name).write_text(compose.initial(compose.Project())[Path("secrets") / name], encoding="utf-8")
    environment = {**service["environment"], "IRONCLAD_CONFIG": str(toml), "IRONCLAD_SECRETS_DIR": str(tmp_path)}
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
    assert called == name
    assert registry.load(called, settings).name == name
    assert settings.database_url is not None
    address = urlsplit(settings.database_url.get_secret_value())
    assert address.hostname in PROJECT["services"]
    assert address.username == PROJECT["services"]["postgres"]["environment"]["POSTGRES_USER"]
    assert urlsplit(settings.prefect.api_url).hostname in PROJECT["services"]


@pytest.mark.parametrize("name", SERVICES)
def test_each_healthcheck_asks_an_endpoint_that_there_is(name: str, tmp_path: Path) -> None:
    service = OURS[name]
    mode, program, flag, code = service["healthcheck"]["test"]
    assert (mode, program, flag) == ("CMD", "/opt/ironclad/bin/python", "-c")
    compile(code, "healthcheck", "exec")
    address = re.search(r"'(http://127\.0\.0\.1:(\d+)(/[a-z/]+))'", code)
    assert address is not None
    assert int(address[2]) == directory.port_of(name, settings_of(service, tmp_path))
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
    assert service["secrets"] == ["database_url"]
    assert not any("password" in str(value).lower() for value in service["environment"].values())


@pytest.mark.parametrize("name", SERVICES)
def test_limits_are_set(name: str) -> None:
    assert "mem_limit" in OURS[name]
    seconds = int(OURS[name]["stop_grace_period"].rstrip("s"))
    assert seconds >= (110 if name.startswith("worker") else 30)


def test_only_what_is_published_on_this_host_leaves_the_inner_network() -> None:
    assert PROJECT["networks"]["inside"]["internal"] is True
    for service in PROJECT["services"].values():
        assert ("ports" in service) == ("outside" in service["networks"])
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))


def test_prometheus_scrapes_every_service_where_it_answers(tmp_path: Path) -> None:
    config = yaml.safe_load(compose.render(compose.Project())[Path("prometheus.yml")])
    (job,) = config["scrape_configs"]
    settings = settings_of(OURS["watch"], tmp_path)
    wanted = {f"{name}:{directory.port_of(name, settings)}" for name in SERVICES}
    assert set(job["static_configs"][0]["targets"]) == wanted
    assert "/metrics" in PATHS


def test_profiles() -> None:
    by_profile = {name: service.get("profiles", []) for name, service in PROJECT["services"].items()}
    assert {name for name, profiles in by_profile.items() if profiles} == {"worker-gpu", "prometheus"}


def test_what_is_named_is_defined() -> None:
    volumes = [volume for service in PROJECT["services"].values() for volume in service.get("volumes", [])]
    named = {volume.split(":")[0] for volume in volumes if not volume.startswith((".", "$"))} | {"data"}
    assert named == {*PROJECT["volumes"]}
    assert {name for service in PROJECT["services"].values() for name in service.get("secrets", [])} == {
        *PROJECT["secrets"]
    }
    for service in PROJECT["services"].values():
        assert {*service.get("depends_on", {})} <= {*PROJECT["services"]}


def instructions() -> list[list[str]]:
    text = compose.render(compose.Project())[Path("Dockerfile")].replace("\\\n", " ")
    return [shlex.split(line) for line in text.splitlines() if line and not line.startswith("#")]


def test_the_image_has_two_stages_runs_as_nobody_special_and_holds_no_secret() -> None:
    lines = instructions()
    assert [line[0] for line in lines].count("FROM") == 2
    known = {"FROM", "ARG", "COPY", "RUN", "ENV", "USER", "WORKDIR", "VOLUME", "ENTRYPOINT", "CMD"}
    assert {line[0] for line in lines} <= known
    last = lines[[index for index, line in enumerate(lines) if line[0] == "FROM"][-1] :]
    assert ["USER", "10001:10001"] in last
    assert not any(word in str(last) for word in ("secret", "password", "gcc"))
    (entry,) = [line for line in last if line[0] == "ENTRYPOINT"]
    assert "/usr/bin/tini" in entry[1]
    assert ["COPY", "wheels/", "/wheels/"] in lines


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
