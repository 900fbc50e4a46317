"""The units at work: the real systemd as process 1 of its own namespaces installs, starts, hurts and stops Ironclad.

`systemd_lab/boot.sh` makes the machine, `systemd_lab/drive.sh` is the operator. Nothing of the host is changed.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.slow, pytest.mark.services, pytest.mark.xdist_group("services"), pytest.mark.timeout(600)
]  # fmt: skip

ROOT = Path(__file__).parents[2]
LAB = Path(__file__).parent / "systemd_lab"
SYSTEMD = Path("/lib/systemd/systemd")
NAMESPACES = "unshare --mount --pid --cgroup --ipc --uts --net --fork --mount-proc"
ENTER = f'echo $$ > "$0/cgroup.procs" && exec {NAMESPACES} --kill-child bash "$1"'
PATIENCE = 500.0
OFFLINE = ("postgres", "watch")
UNITS = ("postgres", "schema", "prefect", "watch", "dispatch", "notify", "api", "worker@cpu")


def cgroup2() -> Path | None:
    """Where cgroup v2 is mounted for writing, if it is."""
    for line in Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines():
        _, where, kind, options, *_ = line.split()
        if kind == "cgroup2" and "rw" in options.split(","):
            return Path(where)
    return None


def impossible() -> str:
    """Why no machine can be made here; empty if one can."""
    if os.geteuid() != 0 or not SYSTEMD.exists() or shutil.which("unshare") is None:
        return "needs root, systemd and unshare"
    if cgroup2() is None:
        return "needs a writable cgroup v2"
    done = subprocess.run([*NAMESPACES.split(), "true"], capture_output=True, check=False, timeout=60)
    return "" if done.returncode == 0 else "the kernel refuses namespaces"


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the operator wrote down."""
    reason = impossible()
    if reason:
        pytest.skip(reason)
    lab = tmp_path_factory.mktemp("machine")
    (lab / "results").mkdir(mode=0o777)
    mounted = cgroup2()
    assert mounted is not None
    group = mounted / f"ironclad-test-{os.getpid()}"
    group.mkdir()
    environment = {
        "PATH": os.environ["PATH"], "LAB": str(lab), "SOURCE": str(ROOT), "PREFIX": sys.prefix,
        "BASE": sys.base_prefix,
    }  # fmt: skip
    with (lab / "boot.log").open("wb") as log:
        machine = subprocess.Popen(
            ["sh", "-c", ENTER, group, LAB / "boot.sh"],
            env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip
    try:
        deadline = time.monotonic() + PATIENCE
        while not (lab / "results/over").exists() and machine.poll() is None and time.monotonic() < deadline:
            time.sleep(0.1)  # what happens inside is seen only by this file
        told = (lab / "results/drive-.log").read_text(encoding="utf-8") if (lab / "results/drive-.log").exists() else ""
        assert (lab / "results/server.log").exists(), told[-3000:] + (lab / "boot.log").read_text()[-2000:]
    finally:
        machine.kill()
        machine.wait()
        _remove(group)
    return lab / "results"


def _remove(group: Path) -> None:
    """Remove the control groups, which takes until the last process is gone."""
    deadline = time.monotonic() + 10
    while group.exists() and time.monotonic() < deadline:
        for folder in sorted((path for path in group.rglob("*") if path.is_dir()), reverse=True):
            try:
                folder.rmdir()
            except OSError:
                continue
        try:
            group.rmdir()
        except OSError:
            time.sleep(0.1)


def shown(file: Path) -> dict[str, dict[str, str]]:
    blocks = (
        dict(line.split("=", 1) for line in block.splitlines()) for block in file.read_text().split("\n\n") if block
    )
    return {block["Id"].removeprefix("ironclad-").removesuffix(".service"): block for block in blocks}


def test_every_service_comes_up_under_all_its_restrictions(results: Path) -> None:
    started = shown(results / "started")
    assert set(started) == set(UNITS)
    for name, unit in started.items():
        assert (unit["ActiveState"], unit["NRestarts"]) == ("active", "0"), name
        assert unit["SubState"] == ("exited" if name == "schema" else "running")
    assert float((results / "ready").read_text()) - float((results / "begun").read_text()) < 300


def test_restrictions_are_in_force(results: Path) -> None:
    for name in UNITS:
        if name == "schema":
            continue
        status = (results / f"status-ironclad-{name}").read_text(encoding="utf-8")
        assert re.search(r"^CapBnd:\s+0+$", status, re.MULTILINE)
        assert re.search(r"^NoNewPrivs:\s+1$", status, re.MULTILINE)
        assert re.search(r"^Seccomp:\s+2$", status, re.MULTILINE)
        assert not re.search(r"^Uid:\s+0\s", status, re.MULTILINE)


def test_each_has_users_of_its_own_and_a_network_only_if_it_needs_one(results: Path) -> None:
    network, users = (results / "namespaces").read_text(encoding="utf-8").split()
    for name in UNITS:
        if name == "schema":
            continue
        status = (results / f"status-ironclad-{name}").read_text(encoding="utf-8")
        assert users not in status, name
        assert (network not in status) == (name in OFFLINE), name
    assert (results / "answers").read_text().split() == ["200", "200"], "systemd listens for them"


def test_processes_of_other_services_are_told_alive_from_dead_though_unseen(results: Path) -> None:
    seen = json.loads((results / "probe-.log").read_text().splitlines()[-1])
    assert (seen["alive_seen"], seen["alive_gone"], seen["dead_gone"]) == (False, False, True)
    assert str(seen["me"]) in seen["users"]
    assert set(seen["interfaces"]) <= {"lo"}, "a decoder leaves the network also from in here"


def test_a_watcher_that_dies_is_asked_at_the_same_socket(results: Path) -> None:
    assert (results / "again").read_text().split() == ["200", "active"]


def test_asking_starts_nothing_that_a_wrong_setting_has_ended(results: Path) -> None:
    unit = shown(results / "wrong-watch")["watch"]
    assert (unit["ActiveState"], unit["ExecMainStatus"]) == ("failed", "78")
    refused, answered = (results / "refused").read_text().splitlines()
    assert "Connection refused" in refused
    assert answered == "200", "put right, it is started again with its socket"


def test_secrets_arrive_as_credentials(results: Path) -> None:
    assert (results / "credentials").read_text().split() == ["ironclad_not_a_setting"]
    assert "CREDENTIALS_DIRECTORY=" in (results / "status-ironclad-watch").read_text()
    assert (results / "credential").read_text() == ""
    assert (results / "leaks").read_text() == ""


def test_a_song_becomes_a_file_of_the_library_for_the_group_only(results: Path) -> None:
    published = (results / "published").read_text(encoding="utf-8").splitlines()
    (song,) = [line for line in published if line.endswith("(Instrumental).flac")]
    assert song.startswith("-rw-r----- ironclad ")
    assert (results / "untaken").read_text() == "", "also what another account dropped is taken"
    assert json.loads((results / "queue.json").read_text())


def test_a_song_is_taken_over_http_with_a_token_alone(results: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("there is no curl here")
    *_, answer, code = (results / "sent").read_text(encoding="utf-8").splitlines()
    assert code == "201", answer
    assert json.loads(answer)["job"]["user"] == "ben"
    *_, answer, code = (results / "unsent").read_text(encoding="utf-8").splitlines()
    assert code == "401", answer


def test_nothing_in_the_installation_is_wrong(results: Path) -> None:
    findings = json.loads((results / "doctor.json").read_text())["findings"]
    assert [finding for finding in findings if finding["status"] == "failed"] == []


def test_tasks_dump_the_database_and_prove_the_dump(results: Path) -> None:
    tasks = shown(results / "tasks")
    assert {(unit["Result"], unit["ExecMainStatus"]) for unit in tasks.values()} == {("success", "0")}
    (dump,) = json.loads((results / "backups.json").read_text())["dumps"]
    assert dump["proven"]
    assert dump["rows"] > 0
    timers = (results / "timers").read_text(encoding="utf-8")
    assert all(f"ironclad-{name}.timer" in timers for name in ("backup", "verify", "prune"))


def test_a_killed_database_comes_back_and_nothing_else_starts_again_for_it(results: Path) -> None:
    recovered = shown(results / "recovered")
    assert {name: unit["NRestarts"] for name, unit in recovered.items()} == {
        name: "1" if name == "postgres" else "0" for name in UNITS
    }
    assert {unit["ActiveState"] for unit in recovered.values()} == {"active"}
    started = shown(results / "started")
    assert all(recovered[name]["MainPID"] == started[name]["MainPID"] for name in UNITS if name != "postgres")


def test_a_wrong_setting_stays_failed(results: Path) -> None:
    unit = shown(results / "wrong")["worker@nonsense"]
    assert (unit["ActiveState"], unit["ExecMainStatus"], unit["NRestarts"]) == ("failed", "78", "0")


def test_stopping_is_clean_and_leaves_nothing(results: Path) -> None:
    assert {unit["ActiveState"] for unit in shown(results / "ended").values()} == {"inactive"}
    assert {unit["Result"] for unit in shown(results / "ended").values()} == {"success"}
    assert (results / "left").read_text() == ""
    *asked, first, second = [line for line in (results / "silent").read_text().splitlines() if line]
    assert all("Connection refused" in line for line in asked)
    assert (first, second) == ("inactive", "inactive")
    assert "database system is shut down" in (results / "server.log").read_text()
