from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING

import pytest

from ironclad.config import load
from ironclad.errors import DatabaseUnavailable
from ironclad.ops import doctor
from ironclad.ops.checks import host, services
from ironclad.ops.checks.outcome import Level, Outcome, ok, warn
from ironclad.ops.doctor import CHECKS, Check, diagnose

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ironclad.config import Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load(environ={"IRONCLAD_DATA_DIR": str(tmp_path / "data"), "IRONCLAD_DISK__MIN_FREE_BYTES": "0"})


def found(settings: Settings, *checks: Check) -> list[tuple[str, Level, str]]:
    return [(finding.name, finding.status, finding.detail) for finding in diagnose(settings, checks)]


def test_findings_come_in_order_with_what_they_are_about(settings: Settings) -> None:
    first_may_end = threading.Event()

    def first(_settings: Settings) -> list[Outcome]:
        assert first_may_end.wait(60)
        return [ok("fine", about="a"), warn("so so", "do something", about="b")]

    def second(_settings: Settings) -> list[Outcome]:
        first_may_end.set()
        return [ok("fine")]

    assert found(settings, Check("first", first), Check("second", second)) == [
        ("first a", Level.OK, "fine"), ("first b", Level.WARN, "so so"), ("second", Level.OK, "fine"),
    ]  # fmt: skip


def test_what_a_check_raises_is_a_finding(settings: Settings) -> None:
    def away(_settings: Settings) -> list[Outcome]:
        raise DatabaseUnavailable("gone")

    def exits(_settings: Settings) -> list[Outcome]:
        raise SystemExit(3)

    one, two = diagnose(settings, (Check("a", away), Check("b", exits)))
    assert (one.status, one.remedy) == (Level.FAIL, DatabaseUnavailable.hint)
    assert "gone" in one.detail
    assert (two.status, two.detail) == (Level.FAIL, "SystemExit: 3")


def test_checks_that_hang_keep_nobody_from_the_rest(settings: Settings) -> None:
    end = threading.Event()

    def hang(_settings: Settings) -> list[Outcome]:
        end.wait(30)
        return []

    hanging = [Check(f"hang {n}", hang, seconds=0.05) for n in range(3)]
    findings = found(settings, *hanging, Check("last", lambda _settings: [ok("done")]))
    end.set()
    assert [status for _, status, _ in findings] == [Level.FAIL] * 3 + [Level.OK]
    assert "no answer within 0.05 s" in findings[0][2]


@pytest.fixture
def left(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Set when a doctor that nobody listens to any more has given up what had not begun, and waits for the rest."""
    event = threading.Event()
    wait = doctor._Running.ended

    def ended(running: doctor._Running, seconds: float) -> bool:
        event.set()
        return wait(running, seconds)

    monkeypatch.setattr(doctor._Running, "ended", ended)
    monkeypatch.setattr(doctor, "_PATIENCE_SECONDS", 60.0)
    return event


def test_what_has_begun_ends_before_a_doctor_that_nobody_listens_to(settings: Settings, left: threading.Event) -> None:
    began, put_away = threading.Event(), threading.Event()

    def first(_settings: Settings) -> list[Outcome]:
        assert began.wait(60)
        return [ok("fine")]

    def second(_settings: Settings) -> list[Outcome]:
        began.set()
        assert left.wait(60)
        put_away.set()
        return [ok("fine")]

    findings = diagnose(settings, (Check("first", first), Check("second", second)))
    next(findings)
    findings.close()
    assert put_away.is_set()


def test_nothing_is_begun_for_a_doctor_that_nobody_listens_to(settings: Settings, left: threading.Event) -> None:
    ran = set()

    def check(number: int) -> Check:
        def run(_settings: Settings) -> list[Outcome]:
            assert number == 0 or left.wait(60)
            ran.add(number)
            return [ok("fine")]

        return Check(str(number), run)

    findings = diagnose(settings, [check(number) for number in range(6)])
    next(findings)
    findings.close()
    assert ran <= {0, 1, 2}  # two at a time


def test_a_check_that_hangs_keeps_nobody_from_leaving(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_PATIENCE_SECONDS", 0.01)
    began, end = threading.Event(), threading.Event()

    def hang(_settings: Settings) -> list[Outcome]:
        began.set()
        end.wait(60)
        return []

    def first(_settings: Settings) -> list[Outcome]:
        assert began.wait(60)
        return [ok("fine")]

    findings = diagnose(settings, (Check("first", first), Check("hangs", hang)))
    next(findings)
    findings.close()
    end.set()


def test_the_trial_of_a_killed_doctor_goes(settings: Settings) -> None:
    settings.layout.create()
    for name, age in ((".doctor-old", 7200.0), (".doctor-young", 10.0)):
        folder = settings.layout.work / name
        folder.mkdir()
        (folder / "first").write_bytes(b"doctor")
        os.utime(folder, (time.time() - age,) * 2)
    host.data_folder(settings)
    assert [path.name for path in settings.layout.work.iterdir()] == [".doctor-young"]


def test_names_are_unique_and_every_check_is_bounded() -> None:
    names = [check.name for check in CHECKS]
    assert len(names) == len(set(names))
    assert all(0 < check.seconds <= 120 for check in CHECKS)


@pytest.mark.parametrize(
    "check",
    [
        host.python, host.packages, host.settings, host.data_folder, host.file_systems, host.disk, host.inodes,
        host.descriptors,
    ],
    ids=lambda check: check.__name__,
)  # fmt: skip
def test_this_machine_passes(settings: Settings, check: Callable[[Settings], list[Outcome]]) -> None:
    settings.layout.create()
    assert {outcome.level for outcome in check(settings)} == {Level.OK}
    assert list(settings.layout.work.iterdir()) == []


def test_a_data_folder_that_cannot_be_made_is_a_failure_with_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    settings = load(environ={"IRONCLAD_DATA_DIR": str(tmp_path / "file")})
    (outcome,) = host.data_folder(settings)
    assert outcome.level is Level.FAIL
    assert outcome.remedy


def test_settings_that_nothing_can_work_with_are_a_failure(tmp_path: Path) -> None:
    roots = {"ingest": {"roots": [{"path": tmp_path / "data" / "output"}]}, "output": {"template": "{{ nonsense }}"}}
    settings = load(roots, environ={"IRONCLAD_DATA_DIR": str(tmp_path / "data")})
    settings.layout.create()
    one, two = diagnose(settings, (Check("settings", host.settings), Check("watch root", services.watch_roots)))
    assert (one.status, two.status) == (Level.FAIL, Level.FAIL)
    assert "nonsense" in one.detail
    assert "Ironclad's own" in two.detail


def test_an_embedded_server_that_goes_meanwhile_is_not_one_that_is_away(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The check of PostgreSQL starts it for a moment where the installation does not run.
    monkeypatch.setattr(services.EmbeddedServer, "pid", lambda _server: os.getpid())
    for check in (services.workers, services.pools, services.other_hosts):
        (outcome,) = check(settings)
        assert outcome.level is Level.OK


def test_a_full_disk_is_a_failure(tmp_path: Path) -> None:
    settings = load({"disk": {"min_free_bytes": 1 << 62}}, environ={"IRONCLAD_DATA_DIR": str(tmp_path)})
    (outcome,) = host.disk(settings)
    assert outcome.level is Level.FAIL
