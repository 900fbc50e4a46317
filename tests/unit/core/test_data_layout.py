"""Every path below the data folder."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

from ironclad.layout import Layout

JOB = UUID("01990000-0000-7000-8000-000000000001")


def test_every_place_has_its_name() -> None:
    layout = Layout(Path("/d"))
    places = {name: getattr(layout, name) for name, kind in vars(Layout).items() if isinstance(kind, property)}
    known = {
        "input": "/d/input", "output": "/d/output", "archive": "/d/archive", "work": "/d/work", "error": "/d/error",
        "logs": "/d/logs", "cover_art_cache": "/d/cover-art-cache", "orphaned": "/d/orphaned", "backups": "/d/backups",
        "models": "/d/models", "postgres": "/d/postgres", "prefect": "/d/prefect", "run": "/d/run",
        "skipped": "/d/logs/skipped.json", "uploads": "/d/uploads",
    }  # fmt: skip
    assert {name: str(places[name]) for name in known} == known
    assert len(set(places.values())) == len(places)
    assert all(path.is_relative_to(layout.root) and path != layout.root for path in places.values())


def test_a_jobs_places_carry_its_id() -> None:
    layout = Layout(Path("/d"))
    assert layout.archive_of(JOB) == Path(f"/d/archive/{JOB}")
    assert layout.work_of(JOB) == Path(f"/d/work/{JOB}")
    assert layout.error_of(JOB, "E_TRUNCATED") == Path(f"/d/error/{JOB}-E_TRUNCATED")
    assert layout.job_log(JOB) == Path(f"/d/logs/jobs/{JOB}.jsonl")


def test_folders_are_made_once_and_again(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "new" / "data")
    layout.create()
    (layout.input / "kept").touch()
    layout.create()
    made = {path.relative_to(layout.root) for path in layout.root.rglob("*") if path.is_dir()}
    assert made >= {Path("input"), Path("archive"), Path("logs/jobs"), Path("cover-art-cache"), Path("run")}
    assert (layout.input / "kept").exists()
    assert not layout.postgres.exists()  # the server makes it, in one step
