"""`ironclad library preview | lint | refile` and `ironclad verify` on a real library and database."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from ironclad import durable
from ironclad.errors import StorageError
from ironclad.jobs import control
from ironclad.library.naming import PathTemplate
from ironclad.library.receipt import Receipt
from ironclad.ops.library import refiling
from ironclad.ops.library.refiling import Refiler

if TYPE_CHECKING:
    from uuid import UUID

    from typer.testing import Result

    from ironclad.config import Settings
    from ironclad.db.session import Database

Run = Callable[..., "Result"]
Publish = Callable[..., "UUID"]
YEARS = "{{ albumartist }}/{{ year }} {{ source_album }}/{{ track | pad }} {{ title }}"


def data(result: Result, code: int = 0) -> Any:
    assert result.exit_code == code, result.output
    return json.loads(result.stdout)


def files(settings: Settings) -> list[str]:
    root = settings.layout.output
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())


def consistent(database: Database, settings: Settings) -> None:
    """Every published artifact is there with its bytes, and there is nothing else."""
    with database.session() as session:
        rows = session.execute(sa.text("SELECT path, blake3 FROM artifact WHERE state = 'published'")).all()
    assert {Path(row.path): row.blake3 for row in rows} == {
        settings.layout.output / name: durable.digest(settings.layout.output / name) for name in files(settings)
    }


# --- preview --------------------------------------------------------------------------------------------------------


def test_preview_of_a_file(run: Run, song: Path) -> None:
    said = data(run("library", "preview", song, "--json"))
    [track] = said["tracks"]
    assert track == {
        "source": str(song), "path": "Ana/Colours/01 - Blue (Instrumental).flac",
        "wanted": "Ana/Colours/01 - Blue (Instrumental).flac", "collides": False,
    }  # fmt: skip
    assert "albumartist" in said["template"]
    other = run("library", "preview", song, "--template", "{{ year }}/{{ title }}", IRONCLAD_OUTPUT__FORMAT="mp3")
    assert other.stdout.splitlines() == ["2020/Blue (Instrumental).mp3"]


def test_preview_knows_what_the_library_holds(run: Run, song: Path, publish: Publish) -> None:
    publish(1, title="Blue")
    [track] = data(run("library", "preview", song, "--json"))["tracks"]
    assert track["path"] == "Ana/Colours/01 - Blue (Instrumental) (2).flac"
    assert track["collides"]
    assert "is taken" in run("library", "preview", song).stdout


def catalogue(path: Path, count: int, doubles: int) -> Path:
    """`count` tracks, of which `doubles` have the name of another, letter case aside."""
    lines = []
    for number in range(count):
        own = number - doubles if number >= count - doubles else number
        title = f"SONG {own}" if own != number else f"Song {own}"
        lines.append({
            "artist": f"Artist {own % 500}", "albumartist": f"Artist {own % 500}", "title": title,
            "source_album": f"Album {own % 50}", "track": own % 20 + 1, "disc": 1, "disctotal": 1 + own % 2,
            "stem": "Instrumental", "stems": "Instrumentals", "date": "2001", "format": "flac",
        })  # fmt: skip
    path.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    return path


def test_a_plan_of_ten_thousand_tracks_finds_every_collision(run: Run, tmp_path: Path) -> None:
    import time  # noqa: PLC0415 - this test alone looks at the clock

    made = catalogue(tmp_path / "tracks.jsonl", 10_000, 137)
    begun = time.process_time()
    said = data(run("library", "preview", "--catalogue", made, "--json"))
    spent = time.process_time() - begun
    assert len(said["tracks"]) == 10_000
    assert said["collisions"] == 137
    assert len({track["path"].casefold() for track in said["tracks"]}) == 10_000
    assert spent < 10
    print(f"10,000 tracks planned in {spent:.2f} s of processor time")  # noqa: T201 - a figure to report


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 1 of the catalogue is no JSON"), ("[]", "no JSON object"), ('{"x": 1}', "no field 'x'"),
        ('{"track": "1"}', "track cannot be '1'"), ('{"track": true}', "track cannot be True"),
    ],
)  # fmt: skip
def test_a_catalogue_that_is_none(line: str, message: str, run: Run, tmp_path: Path) -> None:
    made = tmp_path / "x.jsonl"
    made.write_text(line)
    result = run("library", "preview", "--catalogue", made)
    assert result.exit_code == 2
    assert message in result.stderr


def test_preview_of_nothing_and_by_a_broken_template(run: Run, song: Path, tmp_path: Path) -> None:
    assert run("library", "preview", song, "--catalogue", song).exit_code == 2
    assert run("library", "preview", "--catalogue", tmp_path / "none").exit_code == 5
    assert run("library", "preview", tmp_path / "none.flac").exit_code == 5
    broken = run("library", "preview", song, "--template", "{{ nothing }}")
    assert broken.exit_code == 3
    assert "line 1, column 4: there is no field 'nothing'" in broken.stderr


# --- lint -----------------------------------------------------------------------------------------------------------


def test_lint_of_a_good_library(run: Run, publish: Publish) -> None:
    for number in range(1, 4):
        publish(number)
    said = data(run("library", "lint", "--json"))
    assert (said["files"], said["errors"], said["warnings"]) == (3, 0, 0)


def test_lint_finds_what_is_wrong(
    run: Run, settings: Settings, publish: Publish, make_song: Callable[..., Path]
) -> None:
    publish(1)
    make_song(settings.layout.output / "Ana" / "Colours" / "x.flac", 1.0, album="Other", track=5)
    said = data(run("library", "lint", "--json"), 1)
    assert "mixed-folder" in {finding["rule"] for finding in said["findings"]}
    plain = run("library", "lint", settings.layout.output)
    assert plain.exit_code == 1
    assert "error  mixed-folder (jellyfin)" in plain.stdout
    assert data(run("library", "lint", settings.layout.output / "Ana" / "Colours" / "x.flac", "--json"))["files"] == 1
    assert run("library", "lint", settings.layout.root / "none").exit_code == 5


# --- refile ---------------------------------------------------------------------------------------------------------


def test_refile_shows_then_moves(run: Run, database: Database, settings: Settings, publish: Publish) -> None:
    for number in (1, 2):
        publish(number, kinds=("instrumental", "vocals"))
    before = files(settings)
    planned = data(run("library", "refile", "--dry-run", "--template", YEARS, "--json"))
    assert files(settings) == before
    assert not planned["applied"]
    moved = data(run("library", "refile", "--apply", "--json", IRONCLAD_OUTPUT__TEMPLATE=YEARS))
    assert sorted(map(str, moved["moves"])) == sorted(map(str, planned["moves"]))
    assert len(moved["moves"]) == 4
    names = [name for name in files(settings) if not name.endswith(".receipt.json")]
    assert names == [
        "Ana/2020 Colours/01 Song 1 (Instrumental).flac", "Ana/2020 Colours/01 Song 1 (Vocals).flac",
        "Ana/2020 Colours/02 Song 2 (Instrumental).flac", "Ana/2020 Colours/02 Song 2 (Vocals).flac",
        "Ana/2020 Colours/cover.png",
    ]  # fmt: skip
    assert [path.name for path in (settings.layout.output / "Ana").iterdir()] == ["2020 Colours"]
    consistent(database, settings)
    assert data(run("library", "refile", "--apply", "--json", IRONCLAD_OUTPUT__TEMPLATE=YEARS))["moves"] == []
    assert data(run("verify", "--json"))["checked"] == 4


def test_refile_asks_what_is_meant(run: Run, publish: Publish) -> None:
    publish(1)
    assert run("library", "refile", "--template", YEARS).exit_code == 2
    assert run("library", "refile", "--apply", "--dry-run").exit_code == 2
    assert run("library", "refile", "--apply", "--template", YEARS).exit_code == 2
    assert "would be moved" in run("library", "refile", "--dry-run", "--template", YEARS).stderr


def test_swapped_names_are_sorted_out(database: Database, settings: Settings, publish: Publish) -> None:
    publish(1, title="A", track=2)
    publish(2, title="A", track=1)
    refiler = Refiler(database, settings, "test")
    list(refiler.apply(refiler.plan(PathTemplate("{{ track }}"))))
    list(refiler.apply(refiler.plan(PathTemplate("{% if track == 1 %}2{% else %}1{% endif %}"))))
    assert [name for name in files(settings) if name.endswith(".flac")] == ["1.flac", "2.flac"]
    consistent(database, settings)


def test_a_refile_that_meets_an_obstacle_hides_nothing(
    database: Database, settings: Settings, publish: Publish
) -> None:
    for number in (1, 2, 3):
        publish(number)
    refiler = Refiler(database, settings, "test")
    list(refiler.apply(refiler.plan(PathTemplate("{{ track }}"))))
    obstacle = settings.layout.output / "X.flac.receipt.json"
    obstacle.write_bytes(b"left by somebody")
    swap = PathTemplate("{% if track == 1 %}2{% elif track == 2 %}1{% else %}X{% endif %}")
    with pytest.raises(StorageError, match="receipt"):
        list(refiler.apply(refiler.plan(swap)))
    obstacle.unlink()
    assert [name for name in files(settings) if name.endswith(".flac")] == ["1.flac", "2.flac", "3.flac"]
    consistent(database, settings)


@pytest.mark.parametrize("moment", range(1, 6))
def test_a_refile_that_is_killed_is_finished_by_the_next(
    moment: int, database: Database, settings: Settings, publish: Publish, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in (1, 2):
        publish(number)
    refiler = Refiler(database, settings, "test")
    swap = PathTemplate("Ana/{% if track == 1 %}02 - Song 2{% else %}01 - Song 1{% endif %} (Instrumental)")
    list(refiler.apply(refiler.plan(PathTemplate("Ana/{{ track | pad }} - {{ title }}"))))
    steps = iter(range(1, 100))
    move, note = durable.move, refiling.record

    def killed(*given: Any, then: Callable[..., None], **named: Any) -> None:
        if next(steps) == moment:
            raise KeyboardInterrupt
        then(*given, **named)

    with monkeypatch.context() as patched:
        patched.setattr(durable, "move", lambda *given: killed(*given, then=move))
        patched.setattr(refiling, "record", lambda *given, **named: killed(*given, then=note, **named))
        with pytest.raises(KeyboardInterrupt):
            list(refiler.apply(refiler.plan(swap)))
    refiler.mend(swap)
    list(refiler.apply(refiler.plan(swap)))
    assert [name for name in files(settings) if name.endswith(".flac")] == [
        "Ana/01 - Song 1 (Instrumental).flac", "Ana/02 - Song 2 (Instrumental).flac"
    ]  # fmt: skip
    consistent(database, settings)
    assert refiler.plan(swap) == []


def test_a_move_to_a_numbered_name_that_was_killed_is_finished_by_the_next(
    database: Database, settings: Settings, publish: Publish, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(1)
    stranger = settings.layout.output / "Song.flac"
    stranger.write_bytes(b"bought")
    refiler, flat = Refiler(database, settings, "test"), PathTemplate("Song")

    def killed(*_given: Any, **_named: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(refiling, "record", killed)
        with pytest.raises(KeyboardInterrupt):
            list(refiler.apply(refiler.plan(flat)))
    refiler.mend(flat)
    assert list(refiler.apply(refiler.plan(flat))) == []
    stranger.unlink()
    assert [name for name in files(settings) if name.endswith(".flac")] == ["Song (2).flac"]
    with database.session() as session:
        assert session.scalar(sa.text("SELECT path FROM artifact WHERE kind = 'instrumental'")) == str(
            settings.layout.output / "Song (2).flac"
        )


@pytest.mark.parametrize("moment", ["before the covers", "before a cover is on record"])
def test_a_refile_that_is_killed_at_the_covers_is_finished_by_the_next(
    moment: str, database: Database, settings: Settings, publish: Publish, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(1)
    refiler, years = Refiler(database, settings, "test"), PathTemplate(YEARS)

    def killed(*_given: Any, **_named: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Refiler, "_covers" if moment == "before the covers" else "_place", killed)
        with pytest.raises(KeyboardInterrupt):
            list(refiler.apply(refiler.plan(years)))
    refiler.mend(years)
    assert list(refiler.apply(refiler.plan(years))) == []
    assert [name for name in files(settings) if "cover" in name] == ["Ana/2020 Colours/cover.png"]
    assert [path.name for path in (settings.layout.output / "Ana").iterdir()] == ["2020 Colours"]
    consistent(database, settings)


@pytest.mark.parametrize("whose", ["ours", "somebody's own"])
def test_a_cover_that_is_in_the_way_of_nobody_goes_unless_it_is_somebodys_own(
    database: Database, settings: Settings, publish: Publish, whose: str
) -> None:
    publish(1)
    cover = settings.layout.output / "Ana" / "Colours" / "cover.png"
    if whose != "ours":
        cover.write_bytes(b"scanned, and better")
    album = settings.layout.output / "Ana" / "2020 Colours"
    album.mkdir()
    (album / "cover.jpg").write_bytes(b"scanned")
    refiler = Refiler(database, settings, "test")
    list(refiler.apply(refiler.plan(PathTemplate(YEARS))))
    assert (album / "cover.jpg").read_bytes() == b"scanned"
    assert cover.exists() == (whose != "ours")
    with database.session() as session:
        told = session.scalars(sa.text("SELECT data->>'path' FROM job_event WHERE kind = 'removed'")).all()
    assert told == ([str(cover)] if whose == "ours" else [])


def test_what_runs_and_what_is_not_ours_stays(
    run: Run, database: Database, settings: Settings, publish: Publish
) -> None:
    job = publish(1)
    publish(2)
    with database.session() as session:
        control.replay(session, job, stage="organize", actor="test", pools=frozenset({"cpu"}))
    stranger = settings.layout.output / "Ana" / "2020 Colours" / "02 Song 2 (Instrumental).flac"
    stranger.parent.mkdir()
    stranger.write_bytes(b"bought")
    moved = data(run("library", "refile", "--apply", "--json", IRONCLAD_OUTPUT__TEMPLATE=YEARS))
    assert [move["to"] for move in moved["moves"]] == ["Ana/2020 Colours/02 Song 2 (Instrumental) (2).flac"]
    assert stranger.read_bytes() == b"bought"
    assert "Ana/Colours/01 - Song 1 (Instrumental).flac" in files(settings)


def test_no_attempt_can_begin_while_a_file_moves(
    database: Database, settings: Settings, publish: Publish, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = publish(1)
    seen: list[bool] = []
    move = durable.move

    def watching(source: Path, target: Path) -> None:
        with database.engine.connect() as other:
            row = other.execute(sa.text("SELECT 1 FROM job WHERE job_uuid = :j FOR UPDATE SKIP LOCKED"), {"j": job})
            seen.append(row.first() is None)
        move(source, target)

    monkeypatch.setattr(durable, "move", watching)
    refiler = Refiler(database, settings, "test")
    list(refiler.apply(refiler.plan(PathTemplate(YEARS))))
    assert seen
    assert all(seen)


# --- verify ---------------------------------------------------------------------------------------------------------


def test_verify_tells_what_became_of_each_file(run: Run, settings: Settings, publish: Publish) -> None:
    for number in range(1, 5):
        publish(number)
    assert data(run("verify", "--json"))["ok"]
    one, two, three, _ = sorted(settings.layout.output.rglob("*.flac"))
    one.unlink()
    content = bytearray(two.read_bytes())
    content[-1] ^= 1
    two.write_bytes(content)
    three.with_name(three.name + ".receipt.json").write_text("{}")
    said = data(run("verify", "--json"), 1)
    assert said["checked"] == 4
    assert [problem["verdict"] for problem in said["problems"]] == ["missing", "changed", "unreadable"]
    plain = run("verify", settings.layout.output / "Ana")
    assert plain.exit_code == 1
    assert "same size, other bytes" in plain.stdout
    assert "4 files checked, 3 problems." in plain.stdout
    assert run("verify", settings.layout.root / "none").exit_code == 5


def test_every_file_is_in_one_part(run: Run, publish: Publish) -> None:
    for number in range(1, 6):
        publish(number)
    checked = [data(run("verify", "--subset", f"{part}/3", "--json"))["checked"] for part in (1, 2, 3)]
    assert sum(checked) == 5
    assert run("verify", "--subset", "4/3").exit_code == 2


def test_files_without_a_receipt_are_checked_by_the_database(run: Run, settings: Settings, publish: Publish) -> None:
    publish(1)
    publish(2)
    first, second = sorted(settings.layout.output.rglob("*.flac"))
    for file in (first, second):
        file.with_name(file.name + ".receipt.json").unlink()
    said = data(run("verify", "--json"))
    assert (said["checked"], said["ok"]) == (2, True)
    first.write_bytes(b"x")
    second.unlink()
    assert [p["verdict"] for p in data(run("verify", "--json"), 1)["problems"]] == ["changed", "missing"]
    assert sum(data(run("verify", "--subset", f"{n}/2", "--json"), 1)["checked"] for n in (1, 2)) == 2


def test_decoding_compares_the_length(run: Run, settings: Settings, publish: Publish) -> None:
    publish(1)
    [problem] = data(run("verify", "--decode", "--json"), 1)["problems"]  # the made-up receipt says four samples
    assert problem["verdict"] == "damaged"
    assert "44100 Hz, not 4 at" in problem["detail"]
    [receipt] = settings.layout.output.rglob("*.receipt.json")
    said = json.loads(receipt.read_text())
    right = {**said, "samples": int(problem["detail"].split()[3])}
    receipt.write_bytes(Receipt.from_dict(right).to_bytes())
    assert data(run("verify", "--decode", "--json"))["ok"]


def test_a_library_without_an_installation_is_verified_by_its_receipts(
    run: Run, settings: Settings, publish: Publish, tmp_path: Path
) -> None:
    publish(1)
    elsewhere = {"IRONCLAD_DATA_DIR": str(tmp_path / "none"), "IRONCLAD_DATABASE_URL": None}
    assert data(run("verify", settings.layout.output, "--json", **elsewhere))["checked"] == 1
    assert not (tmp_path / "none").exists()
