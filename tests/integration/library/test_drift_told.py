"""`ironclad verify` tells what became worse or better: a notice for each file, once, and one when it is over."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import sqlalchemy as sa

if TYPE_CHECKING:
    from pathlib import Path
    from uuid import UUID

    from typer.testing import Result

    from ironclad.config import Settings
    from ironclad.db.session import Database

Run = Callable[..., "Result"]
Publish = Callable[..., "UUID"]


def notices(database: Database) -> list[tuple[str, str, str, str]]:
    with database.session() as session:
        rows = session.execute(
            sa.text("SELECT alert, status, severity, labels->>'verdict' AS verdict FROM notice "
                    "WHERE kind = 'drift' ORDER BY id")
        ).all()  # fmt: skip
    return [(row.alert, row.status, row.severity, row.verdict) for row in rows]


def track(settings: Settings, number: int) -> Path:
    (found,) = settings.layout.output.rglob(f"{number:02d} *.flac")
    return found


def test_a_file_that_changed_is_told_once_and_again_when_it_is_as_it_was(
    run: Run, settings: Settings, database: Database, publish: Publish
) -> None:
    job = publish(1)
    publish(2)
    assert run("verify").exit_code == 0
    assert notices(database) == []
    file = track(settings, 1)
    content = file.read_bytes()
    file.write_bytes(b"x" + content[1:])
    for _ in range(2):
        assert run("verify").exit_code == 1
    alert = f"drift:{file.relative_to(settings.layout.output)}"
    fired = (alert, "firing", "warning", "changed")
    assert notices(database) == [fired]
    with database.session() as session:
        data = session.execute(sa.text("SELECT data FROM notice")).scalar_one()
    assert data["job_uuid"] == str(job)
    assert data["name"] == "Ana/Colours/01 - Song 1 (Instrumental).flac"
    assert "ironclad jobs replay" in data["hint"]
    file.write_bytes(content)
    for _ in range(2):
        assert run("verify").exit_code == 0
    assert notices(database) == [fired, (alert, "resolved", "warning", "changed")]


def test_what_is_no_longer_part_of_the_library_is_over_but_a_look_at_one_folder_ends_nothing(
    run: Run, settings: Settings, database: Database, publish: Publish
) -> None:
    publish(1)
    publish(2, album="Other")
    gone = track(settings, 1)
    gone.unlink()
    assert run("verify").exit_code == 1
    assert [status for _, status, *_ in notices(database)] == ["firing"]
    for receipt in gone.parent.glob("*.json"):
        receipt.unlink()
    with database.session() as session:
        session.execute(sa.text("DELETE FROM artifact WHERE path = :path"), {"path": str(gone)})
    assert run("verify", track(settings, 2).parent).exit_code == 0
    assert [status for _, status, *_ in notices(database)] == ["firing"]
    for part in ("1/2", "2/2"):
        assert run("verify", "--subset", part).exit_code == 0
    assert [status for _, status, *_ in notices(database)] == ["firing", "resolved"]


def test_files_elsewhere_are_looked_at_and_not_told_of(
    run: Run, settings: Settings, database: Database, publish: Publish, tmp_path: Path
) -> None:
    publish(1)
    elsewhere = tmp_path / "copy"
    settings.layout.output.rename(elsewhere)
    settings.layout.output.mkdir()
    (broken,) = elsewhere.rglob("01 *.flac")
    broken.write_bytes(b"nothing")
    assert run("verify", elsewhere).exit_code == 1
    assert notices(database) == []
