"""What `ironclad doctor` and `ironclad health` say of dumps and drills."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from ironclad.config import load
from ironclad.ops import backup
from ironclad.ops.backup import Drill, Manifest
from ironclad.ops.checks.backups import backups
from ironclad.ops.checks.outcome import Level
from ironclad.ops.doctor import DEEP

if TYPE_CHECKING:
    from pathlib import Path

    from ironclad.config import Settings

NOW = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    settings = load(environ={"IRONCLAD_DATA_DIR": str(tmp_path / "data")})
    settings.layout.create()
    return settings


def dump(settings: Settings, hours: float, *, drilled: float | None = None, problem: str = "") -> None:
    """A dump so many hours old, restored for a trial so many days ago."""
    made = NOW - timedelta(hours=hours)
    path = settings.layout.backups / f"database-0001-{made:%Y%m%dT%H%M%SZ}.dump"
    path.write_bytes(b"dump")
    trial = None if drilled is None else Drill(at=NOW - timedelta(days=drilled), seconds=1.0, problem=problem)
    manifest = Manifest(
        dump=path.name, created_at=made, ironclad="0", revision="0001", server=180000, database_bytes=4, bytes=4,
        blake3="", tables={}, drill=trial,
    )  # fmt: skip
    backup.save(path, manifest)


def said(settings: Settings) -> dict[str, tuple[Level, str, bool]]:
    return {one.about: (one.level, one.detail, bool(one.remedy)) for one in backups(settings, NOW)}


def test_none_yet(settings: Settings) -> None:
    assert said(settings) == {"dump": (Level.WARN, "there is no dump yet", True)}
    never = load({"backup": {"max_age_hours": 0}}, environ={"IRONCLAD_DATA_DIR": str(settings.layout.root)})
    assert "none is made" in said(never)["dump"][1]


def test_young_and_proven(settings: Settings) -> None:
    dump(settings, 60, drilled=3)
    dump(settings, 2)
    found = said(settings)
    assert [level for level, *_ in found.values()] == [Level.OK, Level.OK]
    assert found["dump"][1].endswith("is 2 h old")
    assert found["drill"][1].endswith("came back 3 days ago")


def test_old(settings: Settings) -> None:
    dump(settings, 46, drilled=36)
    found = said(settings)
    assert found["dump"][0] is Level.WARN
    assert found["dump"][1].endswith("is 46 h old, older than 30 h")
    assert found["drill"][0] is Level.WARN
    assert all(remedy for *_, remedy in found.values())


def test_never_restored_or_not_to_be(settings: Settings) -> None:
    dump(settings, 30)
    assert said(settings)["drill"] == (Level.WARN, "no dump was ever restored", True)
    dump(settings, 20, drilled=5)
    dump(settings, 10, drilled=0.1, problem="table job has 3 rows instead of 4")
    level, detail, remedy = said(settings)["drill"]
    assert (level, remedy) == (Level.FAIL, True)
    assert detail.endswith("did not come back: table job has 3 rows instead of 4")


def test_it_is_one_of_the_deep_checks() -> None:
    assert [check.run for check in DEEP if check.name == "backup"] == [backups]
