"""The units: accepted and scored by systemd's own tools, and true to the settings and the command line."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ironclad.cli.main import COMMANDS
from ironclad.config import load
from ironclad.errors import BadRequest
from ironclad.ops import directory, inherited
from ironclad.ops.install import files, units
from ironclad.ops.install.services import ROLES, Host
from ironclad.ops.install.units import UNITS
from ironclad.ops.services import registry

if TYPE_CHECKING:
    from collections.abc import Callable

    from typer.testing import Result

ROOT = Path(__file__).parents[3]
DEFAULT = Host(Path("/opt/ironclad/bin/ironclad"), Path("/var/lib/ironclad"), pools=("cpu", "gpu"))
THRESHOLD = 15
systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd-analyze here")

SERVICES = [path for path in units.render(DEFAULT) if path.suffix == ".service"]
TIMED = [path for path in SERVICES if path.with_suffix(".timer") in units.render(DEFAULT)]
SOCKETS = [path for path in units.render(DEFAULT) if path.suffix == ".socket"]


def directives(text: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, _, value in (line.partition("=") for line in text.splitlines() if "=" in line and line[0] != "#"):
        found.setdefault(name, []).append(value)
    return found


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Units for a program that is there, since systemd-analyze looks for it."""
    root = tmp_path_factory.mktemp("root")
    program = root / "bin" / "ironclad"
    program.parent.mkdir()
    for name in ("ironclad", "python"):
        program.with_name(name).symlink_to(sys.executable)
    host = Host(program, Path("/var/lib/ironclad"), pools=("cpu", "gpu"))
    files.write(files.plan(root, units.render(host)))
    return root / UNITS


@systemd
def test_systemd_accepts_them_without_a_word(here: Path) -> None:
    names = [
        "ironclad.target",
        "ironclad.slice",
        "ironclad-work.slice",
        *units.wanted(DEFAULT),
        "ironclad-schema.service",
        *(path.name for path in TIMED),
        *(path.name for path in SOCKETS),
    ]
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "--recursive-errors=yes", *(here / name for name in names)],
        env={"SYSTEMD_UNIT_PATH": f"{here}:", "PATH": "/usr/bin:/bin"}, capture_output=True, text=True, check=False,
        timeout=60,
    )  # fmt: skip
    ours = [line for line in (done.stdout + done.stderr).splitlines() if "ironclad" in line]
    assert ours == []
    assert done.returncode == 0, done.stderr


@systemd
def test_systemd_notices_a_mistake(here: Path, tmp_path: Path) -> None:
    text = (here / "ironclad-watch.service").read_text(encoding="utf-8")
    wrong = tmp_path / "ironclad-watch.service"
    wrong.write_text(text.replace("WatchdogSec=", "WatchdogSeconds="), encoding="utf-8")
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", wrong], capture_output=True, text=True, check=False, timeout=60
    )
    assert "WatchdogSeconds" in done.stderr


def exposure(unit: Path) -> float:
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", f"--threshold={THRESHOLD}", unit],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    found = re.search(r"exposure level for \S+: ([\d.]+)", done.stdout)
    assert found is not None, done.stdout + done.stderr
    assert done.returncode == 0, f"{unit.name}: {found[1]}"
    return float(found[1])


@systemd
@pytest.mark.parametrize("name", [path.name for path in SERVICES])
def test_exposure_is_below_the_threshold_and_as_documented(here: Path, name: str) -> None:
    table = dict(
        re.findall(
            r"^\| `(ironclad-\S+)` \| ([\d.]+) \|",
            (ROOT / "docs/deployment.md").read_text(encoding="utf-8"),
            re.MULTILINE,
        )
    )
    assert exposure(here / name) == float(table[name])


def test_the_comparison_with_others_has_the_same_figures() -> None:
    text = {name: (ROOT / f"docs/{name}.md").read_text(encoding="utf-8") for name in ("comparison", "deployment")}
    told = {figure for row in re.findall(r"^\| Ironclad, [^|]+\| ([^|]+) \|", text["comparison"], re.MULTILINE)
            for figure in row.split(" to ")}  # fmt: skip
    assert told == {*re.findall(r"^\| `ironclad-\S+\.service` \| ([\d.]+) \|", text["deployment"], re.MULTILINE)}


def test_the_files_in_deploy_are_what_the_command_writes() -> None:
    written = {
        path.name: files.sealed(text) for path, text in units.render(DEFAULT).items() if path.parts[1] == "systemd"
    }
    written["sysusers.conf"] = files.sealed(units.render(DEFAULT)[Path("etc/sysusers.d/ironclad.conf")])
    written["tmpfiles.conf"] = files.sealed(units.render(DEFAULT)[Path("etc/tmpfiles.d/ironclad.conf")])
    found = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "deploy/systemd").iterdir()}
    assert found == written, "run `python tests/unit/deploy/regenerate.py`"


@pytest.mark.parametrize("path", SERVICES, ids=lambda path: path.name)
def test_each_starts_something_that_there_is(path: Path) -> None:
    command = directives(units.render(DEFAULT)[path])["ExecStart"][0].split()
    if command[0].endswith("/python"):
        assert command[1:] == ["-m", "ironclad.ops.prepare", "schema"]
        return
    if path in TIMED:
        assert command[0] == "/opt/ironclad/bin/ironclad"
        entry = next(entry for entry in COMMANDS if entry.name == command[1])
        assert command[2:] == [] or command[2] in entry.load().commands
        return
    assert command[:2] == ["/opt/ironclad/bin/ironclad", "run"]
    assert "run" in {entry.name for entry in COMMANDS}
    name = command[2] if command[2] != "worker" else "worker-cpu"
    assert registry.load(name, load({"data_dir": "/nonexistent"}, {})).name == name


@pytest.mark.parametrize("path", SERVICES, ids=lambda path: path.name)
def test_a_reason_stands_before_every_restriction(path: Path) -> None:
    lines = units.render(DEFAULT)[path].splitlines()
    first = next(index for index, line in enumerate(lines) if line.startswith("ReadWritePaths"))
    last = lines.index("[Install]") - 1 if "[Install]" in lines else len(lines)
    for index in range(first, last, 2):
        assert lines[index - 1].startswith("# "), lines[index]
        assert not lines[index].startswith("#")


@pytest.mark.parametrize("path", TIMED, ids=lambda path: path.name)
def test_tasks_are_started_by_a_clock_alone_and_end(path: Path) -> None:
    rendered = units.render(DEFAULT)
    task = directives(rendered[path])
    assert task["Type"] == ["oneshot"]
    assert int(task["TimeoutStartSec"][0].rstrip("s")) >= 3600
    assert not {"Restart", "WatchdogSec", "WantedBy", "RemainAfterExit"} & {*task}
    timer = directives(rendered[path.with_suffix(".timer")])
    assert timer["Persistent"] == ["yes"]
    assert timer["PartOf"] == timer["WantedBy"] == ["ironclad.target"]
    assert f"Wants={path.with_suffix('.timer').name}" in rendered[UNITS / "ironclad.target"]


@systemd
@pytest.mark.parametrize("path", TIMED, ids=lambda path: path.name)
def test_systemd_understands_the_times(path: Path) -> None:
    (when,) = directives(units.render(DEFAULT)[path.with_suffix(".timer")])["OnCalendar"]
    done = subprocess.run(
        ["systemd-analyze", "calendar", when], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "Next elapse" in done.stdout


@pytest.mark.parametrize("path", [path for path in SERVICES if path not in TIMED], ids=lambda path: path.name)
def test_services_are_watched_stopped_gracefully_and_not_restarted_for_nothing(path: Path) -> None:
    found = directives(units.render(DEFAULT)[path])
    assert found["RestartPreventExitStatus"] == ["78"]
    assert found["KillMode"] == ["mixed"]
    assert {"MemoryHigh", "MemoryMax", "Slice", "StartLimitBurst"} <= {*found}
    interval, burst, pause = (
        int(found[name][0].rstrip("s")) for name in ("StartLimitIntervalSec", "StartLimitBurst", "RestartSec")
    )
    assert burst > interval / pause, "a database that is away for long would end the service for good"
    if "ironclad-schema" not in path.name:
        assert found["Type"] == ["notify"]
        assert found["WatchdogSec"] == ["60s"]


def test_a_worker_is_given_longer_to_stop_than_its_runs() -> None:
    for seconds in (5.0, 60.0, 600.5):
        host = Host(DEFAULT.program, DEFAULT.data_dir, drain_seconds=seconds)
        found = directives(units.render(host)[UNITS / "ironclad-worker@.service"])
        assert int(found["TimeoutStopSec"][0].rstrip("s")) >= seconds + 20
        assert found["OOMPolicy"] == ["continue"]


def test_secrets_are_credentials_and_nowhere_else() -> None:
    for path in SERVICES:
        found = directives(units.render(DEFAULT)[path])
        if "postgres" in path.name:
            assert "LoadCredential" not in found
            continue
        assert found["LoadCredential"] == ["ironclad:/etc/ironclad/secrets"]
        assert "IRONCLAD_SECRETS_DIR=%d" in found["Environment"]
        assert not any("password" in value for value in found["Environment"])


def test_a_credential_wins_over_the_embedded_servers_address(tmp_path: Path) -> None:
    environment = dict(
        value.split("=", 1) for value in directives(units.render(DEFAULT)[SERVICES[0]])["Environment"]
    )  # fmt: skip
    (tmp_path / "ironclad_database_url").write_text("postgresql://u:p@db/x\n", encoding="utf-8")
    settings = load(environ={**environment, "IRONCLAD_SECRETS_DIR": str(tmp_path)})
    assert settings.database_url is not None
    assert settings.database_url.get_secret_value() == "postgresql://u:p@db/x"


def test_one_host_can_have_a_part_of_the_services() -> None:
    host = Host(DEFAULT.program, DEFAULT.data_dir, roles=("worker",), networks=("localhost", "10.0.0.0/8"))
    rendered = units.render(host)
    names = {path.name for path in rendered if path.suffix == ".service"}
    assert names == {"ironclad-worker@.service", "ironclad-schema.service"}
    worker = directives(rendered[UNITS / "ironclad-worker@.service"])
    assert not any("DATABASE_URL" in value for value in worker["Environment"])
    assert worker["IPAddressAllow"] == ["localhost 10.0.0.0/8"]
    assert "postgres" not in rendered[UNITS / "ironclad.target"]
    assert "prefect" not in " ".join(worker["After"])


@pytest.mark.parametrize("path", SOCKETS, ids=lambda path: path.name)
def test_systemd_listens_for_a_service_without_a_network(path: Path) -> None:
    rendered = units.render(DEFAULT)
    service = directives(rendered[path.with_suffix(".service")])
    assert service["Sockets"] == [path.name]
    assert service["PrivateNetwork"] == ["yes"]
    assert service["RestrictAddressFamilies"] == ["AF_UNIX"]
    sock = directives(rendered[path])
    port = directory.port_of(path.stem.removeprefix("ironclad-"), load({"data_dir": "/nonexistent"}, {}))
    assert sock["ListenStream"] == [f"127.0.0.1:{port}"]
    assert sock["FileDescriptorName"] == [inherited.HEALTH]
    assert sock["PartOf"] == sock["BindsTo"] == [path.with_suffix(".service").name]
    assert (sock["IPAddressDeny"], sock["IPAddressAllow"]) == (["any"], ["localhost"])


def test_those_without_a_network_need_nothing_beyond_the_embedded_database() -> None:
    rendered = units.render(DEFAULT)
    private = {path.stem for path in SERVICES if "PrivateNetwork" in directives(rendered[path])}
    assert private == {f"ironclad-{name}" for name in ("postgres", "schema", "watch", "backup", "verify", "prune")}


@pytest.mark.parametrize(
    ("more", "left"),
    [
        ({"base_port": 0}, {"schema", "backup", "verify", "prune"}),
        ({"endpoints": "music.example.org"}, {"schema", "backup", "verify", "prune"}),
        ({"roles": tuple(role for role in ROLES if role != "postgres")}, set()),
    ],
    ids=["free ports", "a name", "a server elsewhere"],
)
def test_a_network_stays_where_it_is_needed(more: dict[str, object], left: set[str]) -> None:
    rendered = units.render(replace(DEFAULT, **more))  # type: ignore[arg-type] # as given above
    assert not [path for path in rendered if path.suffix == ".socket"]
    private = {path.stem for path, text in rendered.items() if path.suffix == ".service" and "PrivateNetwork" in text}
    assert private == {f"ironclad-{name}" for name in left}


def test_the_sockets_follow_the_settings() -> None:
    rendered = units.render(replace(DEFAULT, endpoints="::1", base_port=7000, networks=("any",)))
    sock = directives(rendered[UNITS / "ironclad-watch.socket"])
    assert sock["ListenStream"] == ["[::1]:7001"]
    assert "IPAddressDeny" not in sock


@pytest.mark.parametrize(
    ("host", "networks", "allowed"),
    [
        ("127.0.0.1", ("localhost",), ["localhost"]),
        ("0.0.0.0", ("localhost",), None),  # noqa: S104 - the case at hand
        ("192.0.2.7", ("localhost", "192.0.2.0/24"), ["localhost 192.0.2.0/24"]),
    ],
)
def test_the_api_answers_whom_its_settings_mean(
    host: str, networks: tuple[str, ...], allowed: list[str] | None
) -> None:
    found = directives(units.render(replace(DEFAULT, api=host, networks=networks))[UNITS / "ironclad-api.service"])
    assert found.get("IPAddressAllow") == allowed


def test_the_api_has_a_unit_only_where_the_settings_say_so(run: Callable[..., Result], tmp_path: Path) -> None:
    without = run("install", "systemd", "--root", tmp_path)
    assert without.exit_code == 0, without.stderr
    assert not (tmp_path / UNITS / "ironclad-api.service").exists()
    with_it = run(
        "install", "systemd", "--root", tmp_path, IRONCLAD_API__ENABLED="true", IRONCLAD_API__STOP_SECONDS="300"
    )
    assert with_it.exit_code == 0, with_it.stderr
    found = directives((tmp_path / UNITS / "ironclad-api.service").read_text(encoding="utf-8"))
    assert int(found["TimeoutStopSec"][0].rstrip("s")) > 300
    assert "Wants=ironclad-api.service" in (tmp_path / UNITS / "ironclad.target").read_text(encoding="utf-8")
    again = run("install", "systemd", "--root", tmp_path)
    assert "removed   " in again.stdout
    assert "api" not in (tmp_path / UNITS / "ironclad.target").read_text(encoding="utf-8")


def test_any_address_is_no_filter() -> None:
    text = units.render(Host(DEFAULT.program, DEFAULT.data_dir, networks=("any",)))[UNITS / "ironclad-watch.service"]
    assert "IPAddress" not in text


def test_homes_stay_readable_where_the_data_is() -> None:
    host = Host(DEFAULT.program, Path("/home/ana/music"), write_paths=(Path("/srv/drop"),))
    found = directives(units.render(host)[UNITS / "ironclad-watch.service"])
    assert found["ProtectHome"] == ["read-only"]
    assert found["ReadWritePaths"] == ["/home/ana/music /srv/drop"]
    assert found["RequiresMountsFor"] == ["/home/ana/music /srv/drop"]
    assert directives(units.render(DEFAULT)[UNITS / "ironclad-watch.service"])["ProtectHome"] == ["yes"]


@pytest.mark.parametrize(
    "host",
    [
        {"data_dir": Path("relative")},
        {"data_dir": Path("/with space")},
        {"data_dir": Path("/per%cent")},
        {"data_dir": Path("/" + "x" * 100)},
        {"user": "root;reboot"},
        {"roles": ("nonsense",)},
        {"roles": ()},
    ],
    ids=str,
)
def test_what_cannot_work_is_refused(host: dict[str, object]) -> None:
    with pytest.raises(BadRequest):
        Host(**{"program": DEFAULT.program, "data_dir": DEFAULT.data_dir, **host})  # type: ignore[arg-type] # wrong on purpose


def test_the_command_writes_below_a_root_and_says_what_is_next(run: Callable[..., Result], tmp_path: Path) -> None:
    result = run("install", "systemd", "--root", tmp_path, "--program", "/opt/ironclad/bin/ironclad", "--json")
    assert result.exit_code == 0, result.stderr
    answer = json.loads(result.stdout)
    assert {row["outcome"] for row in answer["files"]} == {"created"}
    assert answer["next"][-1] == f"systemctl --root={tmp_path} enable ironclad.target", "this host is not meant"
    config = (tmp_path / "etc/ironclad/ironclad.toml").read_text(encoding="utf-8")
    assert "data_dir = " in config
    drop_in = tmp_path / UNITS / "ironclad-watch.service.d" / "override.conf"
    drop_in.parent.mkdir()
    drop_in.write_text("[Service]\nNice=5\n", encoding="utf-8")
    again = run("install", "systemd", "--root", tmp_path, "--program", "/usr/bin/ironclad", "--only", "watch")
    assert again.exit_code == 0
    assert "removed   " in again.stdout
    assert drop_in.exists()
    assert not (tmp_path / UNITS / "ironclad-dispatch.service").exists()


def test_a_dry_run_shows_everything_and_writes_nothing(run: Callable[..., Result], tmp_path: Path) -> None:
    result = run("install", "systemd", "--root", tmp_path, "--dry-run")
    assert result.exit_code == 0, result.stderr
    assert "ExecStart=" in result.stdout
    assert list(tmp_path.iterdir()) == []


def test_an_operators_server_leaves_the_embedded_one_out(run: Callable[..., Result], tmp_path: Path) -> None:
    toml = tmp_path / "ironclad.toml"
    toml.write_text(
        'data_dir = "/srv/i"\ndatabase_url = "postgresql://u:secret@db/x"\n[prefect]\napi_url = "http://p/api"\n'
    )
    result = run("--config", toml, "install", "systemd", "--root", tmp_path, "--dry-run", "--json")
    rows = {Path(row["path"]).name: row["text"] for row in json.loads(result.stdout)["files"]}
    assert "ironclad-postgres.service" not in rows
    assert "ironclad-prefect.service" not in rows
    assert "secret" not in "".join(rows.values()).replace("/etc/ironclad/secrets", "").replace("secrets", "").replace(
        "a secret setting", ""
    ).replace("no secret", "")


def test_shared_storage_behind_links_can_be_written(run: Callable[..., Result], tmp_path: Path) -> None:
    for name in ("work", "output", "uploads"):
        (tmp_path / "shared" / name).mkdir(parents=True)
        (tmp_path / "data").mkdir(exist_ok=True)
        (tmp_path / "data" / name).symlink_to(tmp_path / "shared" / name)
    (tmp_path / "data" / "archive").mkdir()
    result = run("--data-dir", tmp_path / "data", "install", "systemd", "--dry-run", "--root", tmp_path, "--json")
    units_ = {Path(row["path"]).name: row["text"] for row in json.loads(result.stdout)["files"] if "text" in row}
    paths = directives(units_["ironclad-worker@.service"])["ReadWritePaths"][0].split()
    assert paths == [
        str(tmp_path / "data"),
        *(str(tmp_path / "shared" / name) for name in ("work", "output", "uploads")),
    ]
