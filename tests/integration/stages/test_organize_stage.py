"""organize on made-up results: names, receipts, covers, and what the linter says before anything is published."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa
from stage_contexts import context, made_outputs

from ironclad import durable
from ironclad.config import Settings
from ironclad.errors import LeaseLost
from ironclad.jobs.states import JobState
from ironclad.library.receipt import Receipt
from ironclad.metadata.model import Picture, PictureType, TrackTags
from ironclad.stages import leavings, organize

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ironclad.db.session import Database
    from ironclad.jobs import lease
    from ironclad.stages.context import StageContext, StageResult

    Claims = Callable[..., lease.Claim]
    Organize = Callable[..., StageResult]

TAGS = TrackTags(title="Blue", artists=("Ana",), album="Colours", album_artists=("Ana",), track=1, date="2020")
FRONT = Picture(PictureType.FRONT_COVER, "image/png", "", 2, 2, data=b"png of the front")
BACK = Picture(PictureType.BACK_COVER, "image/jpeg", "", 9, 9, data=b"jpeg of the back")


@pytest.fixture
def run(database: Database, settings: Settings, claims: Claims, tmp_path: Path) -> Organize:
    """`run(tags, claim=…, kinds=…, settings=…)` organizes files of a job; a new job's unless a claim is given."""
    source = tmp_path / "made.flac"

    def go(tags: TrackTags = TAGS, *, content: bytes = b"flac", kinds: tuple[str, ...] = ("instrumental",),
           claim: lease.Claim | None = None, pictures: tuple[Picture, ...] = (FRONT, BACK), **changes: Any,
    ) -> StageResult:  # fmt: skip
        source.write_bytes(content)
        claim = claim or claims()
        folder = tmp_path / "work" / str(claim.job.job_uuid)
        outputs = made_outputs(folder, tags, dict.fromkeys(kinds, source), pictures)
        mine = Settings.model_validate(_merged(settings.model_dump(), changes))
        return organize.run(context(database, mine, claim, folder / "organize", outputs))

    return go


def _merged(values: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    return {**values, **{name: {**values[name], **change} for name, change in changes.items()}}


def library(settings: Settings) -> list[str]:
    root = settings.layout.output
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())


def kinds(database: Database) -> list[tuple[str, str]]:
    with database.session() as session:
        return [tuple(row) for row in session.execute(sa.text("SELECT kind, state FROM artifact ORDER BY kind, state"))]


def test_a_file_its_receipt_and_the_albums_cover(database: Database, settings: Settings, run: Organize) -> None:
    result = run()
    name = "Ana/Colours/01 - Blue (Instrumental).flac"
    assert library(settings) == [name, name + ".receipt.json", "Ana/Colours/cover.png"]
    assert (settings.layout.output / "Ana/Colours/cover.png").read_bytes() == FRONT.data
    assert kinds(database) == [
        ("cover:instrumental", "published"), ("instrumental", "published"), ("receipt:instrumental", "published")
    ]  # fmt: skip
    assert result.data["lint"] == result.data["scans"] == []
    said = Receipt.from_bytes((settings.layout.output / f"{name}.receipt.json").read_bytes())
    assert said.file == name.rpartition("/")[2]
    assert said.more["servers"]["album"] == "Colours (Instrumentals)"
    assert said.more["servers"]["identifiers"] == {}
    assert said.finished_at
    with database.session() as session:
        kept = session.scalar(sa.text("SELECT receipt FROM artifact WHERE kind = 'instrumental'"))
    assert Receipt.from_dict({**kept, "file": said.file}) == said  # one definition, two places


def test_the_same_bytes_again_keep_the_receipts_times(settings: Settings, claims: Claims, run: Organize) -> None:
    claim = claims()
    run(claim=claim)
    [receipt] = settings.layout.output.rglob("*.receipt.json")
    before = receipt.read_bytes()
    run(claim=claim)
    assert receipt.read_bytes() == before
    run(claim=claim, content=b"better")
    assert json.loads(receipt.read_bytes())["finished_at"] > json.loads(before)["finished_at"]


def test_receipts_may_be_in_the_database_only(database: Database, settings: Settings, run: Organize) -> None:
    run(output={"receipts": False, "cover": False})
    assert library(settings) == ["Ana/Colours/01 - Blue (Instrumental).flac"]
    with database.session() as session:
        assert session.scalar(sa.text("SELECT receipt->>'kind' FROM artifact")) == "instrumental"


def test_jobs_of_one_album_do_not_fight_for_the_cover(database: Database, settings: Settings, run: Organize) -> None:
    other = Picture(PictureType.FRONT_COVER, "image/png", "", 3, 3, data=b"another front")
    for number, pictures in enumerate([(FRONT,), (other,), (FRONT,), (BACK,)], start=1):
        run(TrackTags(**{**TAGS.present(), "title": f"Song {number}", "track": number}), pictures=pictures)
    covers = [name for name in library(settings) if "cover" in name]
    assert covers == ["Ana/Colours/cover.png"]
    assert (settings.layout.output / covers[0]).read_bytes() == FRONT.data
    assert kinds(database).count(("cover:instrumental", "published")) == 1


def test_a_cover_that_another_job_is_about_to_publish_is_left(
    database: Database, settings: Settings, claims: Claims, run: Organize
) -> None:
    run()
    (settings.layout.output / "Ana/Colours/cover.png").unlink()  # the row is there, the file is not yet
    run(TrackTags(**{**TAGS.present(), "title": "Red", "track": 2}))
    assert [name for name in library(settings) if "cover" in name] == []
    assert len([state for kind, state in kinds(database) if kind == "cover:instrumental"]) == 1


def test_somebody_elses_cover_stays(settings: Settings, run: Organize) -> None:
    own = settings.layout.output / "Ana/Colours/Cover.JPG"
    own.parent.mkdir(parents=True)
    own.write_bytes(b"scanned")
    run()
    assert [name for name in library(settings) if "over" in name] == ["Ana/Colours/Cover.JPG"]


def test_a_job_improves_its_own_cover(settings: Settings, claims: Claims, run: Organize) -> None:
    claim = claims()
    run(claim=claim)
    better = Picture(PictureType.FRONT_COVER, "image/png", "", 9, 9, data=b"better")
    run(claim=claim, pictures=(better,))
    assert (settings.layout.output / "Ana/Colours/cover.png").read_bytes() == b"better"


def test_stems_in_folders_of_their_own_have_covers_of_their_own(settings: Settings, run: Organize) -> None:
    run(kinds=("instrumental", "vocals"))
    assert [name for name in library(settings) if "cover" in name] == [
        "Ana/Colours (Vocals)/cover.png", "Ana/Colours/cover.png"
    ]  # fmt: skip


def test_without_pictures_or_an_album_folder_there_is_no_cover(
    settings: Settings, claims: Claims, run: Organize, tmp_path: Path
) -> None:
    run(pictures=())
    run(claim=claims(options={"output_dir": str(tmp_path / "out")}))
    run(output={"template": "{{ title }}"})
    assert not [*settings.layout.output.rglob("cover.*"), *tmp_path.glob("out/**/cover.*")]


def test_a_conflict_is_told_and_published(settings: Settings, run: Organize) -> None:
    run()
    [finding] = [one for one in run(content=b"again").data["lint"] if one["rule"] == "doubled-number"]
    assert finding["severity"] == "error"
    assert finding["paths"] == [
        "Ana/Colours/01 - Blue (Instrumental) (2).flac", "Ana/Colours/01 - Blue (Instrumental).flac"
    ]  # fmt: skip
    assert len([name for name in library(settings) if name.endswith(".flac")]) == 2


def test_a_conflict_is_kept_back(database: Database, settings: Settings, run: Organize) -> None:
    run()
    before, rows = library(settings), kinds(database)
    result = run(content=b"again", library={"lint": "quarantine"})
    assert result.settle is JobState.QUARANTINED
    assert result.error is not None
    assert result.error.code == "E_LIBRARY_CONFLICT"
    assert "doubled-number: album" in result.error.detail
    assert (library(settings), kinds(database)) == (before, rows)


def test_quarantine_lets_good_files_and_warnings_pass(settings: Settings, run: Organize) -> None:
    result = run(TrackTags(title="Blue", track=1), library={"lint": "quarantine"})
    assert result.settle is None
    assert {finding["rule"] for finding in result.data["lint"]} == {"missing-album-artist", "missing-name"}
    assert library(settings)


def test_the_linter_may_be_off(run: Organize) -> None:
    run()
    assert run(content=b"again", library={"lint": "off"}).data["lint"] == []


def test_strangers_in_the_folder_count(settings: Settings, run: Organize, make_song: Callable[..., Path]) -> None:
    make_song(settings.layout.output / "Ana" / "Colours" / "99.flac", 1.0, title="Blue", album="Other")
    rules = {finding["rule"] for finding in run().data["lint"]}
    assert "mixed-folder" in rules


def test_a_result_under_another_name_takes_the_place_of_the_older(
    database: Database, settings: Settings, claims: Claims, run: Organize
) -> None:
    claim = claims()
    run(claim=claim)
    result = run(TrackTags(**{**TAGS.present(), "album": "Shades"}), claim=claim)
    old = settings.layout.output / "Ana/Colours/01 - Blue (Instrumental).flac"
    assert result.data["removed"] == [str(old), f"{old}.receipt.json"]
    name = "Ana/Shades/01 - Blue (Instrumental).flac"
    # The cover stays where it is: other songs of that album may have no other.
    assert library(settings) == ["Ana/Colours/cover.png", name, f"{name}.receipt.json", "Ana/Shades/cover.png"]
    with database.session() as session:
        said = session.scalars(sa.text("SELECT data->>'reason' FROM job_event WHERE kind = 'removed'")).all()
    assert said == ["published anew under another name"] * 2


def test_an_older_result_that_somebody_changed_stays(settings: Settings, claims: Claims, run: Organize) -> None:
    claim = claims()
    run(claim=claim, output={"receipts": False, "cover": False})
    [old] = settings.layout.output.rglob("*.flac")
    old.write_bytes(b"mine now")
    other = TrackTags(**{**TAGS.present(), "album": "Shades"})
    assert run(other, claim=claim, output={"receipts": False, "cover": False}).data["removed"] == []
    assert old.read_bytes() == b"mine now"


def test_a_result_whose_name_differs_in_letter_case_only_takes_the_place_of_the_older(
    settings: Settings, claims: Claims, run: Organize
) -> None:
    claim = claims()
    quiet = {"receipts": False, "cover": False}
    run(TrackTags(**{**TAGS.present(), "album_artists": ("ana",), "title": "blue"}), claim=claim, output=quiet)
    run(claim=claim, output=quiet)
    assert library(settings) == ["Ana/Colours/01 - Blue (Instrumental).flac"]
    assert [path.name for path in settings.layout.output.iterdir()] == ["Ana"]


def test_an_older_result_that_a_killed_retag_had_written_anew_goes(
    database: Database, settings: Settings, claims: Claims, run: Organize
) -> None:
    claim = claims()
    quiet = {"receipts": False, "cover": False}
    run(claim=claim, output=quiet)
    [old] = settings.layout.output.rglob("*.flac")
    old.write_bytes(b"retagged")
    with database.session() as session:
        session.execute(
            sa.text(
                "UPDATE artifact SET receipt = receipt || jsonb_build_object('intended_blake3', CAST(:digest AS text))"
            ),
            {"digest": durable.digest(old)},
        )
    run(TrackTags(**{**TAGS.present(), "album": "Shades"}), claim=claim, output=quiet)
    assert library(settings) == ["Ana/Shades/01 - Blue (Instrumental).flac"]


def test_an_older_name_of_the_same_file_is_not_removed(settings: Settings, claims: Claims, run: Organize) -> None:
    claim = claims()
    quiet = {"receipts": False, "cover": False}
    run(claim=claim, output=quiet)
    (settings.layout.output / "Bea").symlink_to("Ana")  # for somebody, the two are one
    run(TrackTags(**{**TAGS.present(), "album_artists": ("Bea",)}), claim=claim, output=quiet)
    assert library(settings) == ["Ana/Colours/01 - Blue (Instrumental).flac"]
    assert (settings.layout.output / "Bea/Colours/01 - Blue (Instrumental).flac").read_bytes() == b"flac"


def test_a_cover_that_somebody_put_over_ours_stays(settings: Settings, claims: Claims, run: Organize) -> None:
    claim = claims()
    run(claim=claim)
    cover = settings.layout.output / "Ana/Colours/cover.png"
    cover.write_bytes(b"scanned, and better")
    better = Picture(PictureType.FRONT_COVER, "image/png", "", 9, 9, data=b"better")
    run(claim=claim, pictures=(better,))
    assert cover.read_bytes() == b"scanned, and better"


def test_stems_of_a_template_that_does_not_tell_them_apart_are_all_there(settings: Settings, run: Organize) -> None:
    run(kinds=("instrumental", "vocals"), output={"template": "{{ artist }} - {{ source_title }}", "cover": False})
    assert [name for name in library(settings) if name.endswith(".flac")] == [
        "Ana - Blue (2).flac", "Ana - Blue.flac",
    ]  # fmt: skip


def test_an_emptied_folder_goes_and_the_library_stays(settings: Settings, claims: Claims, run: Organize) -> None:
    claim = claims()
    quiet = {"receipts": False, "cover": False}
    run(claim=claim, output=quiet)
    run(TrackTags(**{**TAGS.present(), "album_artists": ("Bea",)}), claim=claim, output=quiet)
    assert [path.name for path in settings.layout.output.iterdir()] == ["Bea"]


def test_an_empty_folder_that_an_interrupted_attempt_left_goes(
    settings: Settings, claims: Claims, run: Organize
) -> None:
    claim = claims()
    quiet = {"receipts": False, "cover": False}
    other = TrackTags(**{**TAGS.present(), "album_artists": ("Bea",)})
    run(claim=claim, output=quiet)
    run(other, claim=claim, output=quiet)
    (settings.layout.output / "Ana" / "Colours").mkdir(parents=True)
    assert run(other, claim=claim, output=quiet).data["removed"] == []
    assert [path.name for path in settings.layout.output.iterdir()] == ["Bea"]


def test_an_attempt_without_its_lease_removes_nothing(
    database: Database, settings: Settings, claims: Claims, run: Organize, tmp_path: Path
) -> None:
    claim = claims()
    quiet = {"receipts": False, "cover": False}
    run(claim=claim, output=quiet)
    [old] = settings.layout.output.rglob("*.flac")
    whole = old.read_bytes()
    run(TrackTags(**{**TAGS.present(), "album": "Shades"}), claim=claim, output=quiet)
    old.parent.mkdir()
    old.write_bytes(whole)  # as if this attempt had not come to it yet
    with database.session() as session:
        session.execute(sa.text("UPDATE job SET lease_token = gen_random_uuid()"))
    with pytest.raises(LeaseLost):
        leavings.sweep(context(database, settings, claim, tmp_path / "late", {}), settings.layout.output)
    assert old.read_bytes() == whole


def test_songs_of_one_album_that_are_published_at_the_same_time(
    database: Database, settings: Settings, claims: Claims, tmp_path: Path
) -> None:
    source = tmp_path / "made.flac"
    source.write_bytes(b"flac")
    together = threading.Barrier(4)
    stages = []
    for number in range(1, 5):
        claim = claims()
        folder = tmp_path / "work" / str(claim.job.job_uuid)
        tags = TrackTags(**{**TAGS.present(), "title": f"Song {number}", "track": number})
        front = Picture(PictureType.FRONT_COVER, "image/png", data=b"cover %d" % number)
        outputs = made_outputs(folder, tags, {"instrumental": source}, (front,))
        stages.append(context(database, settings, claim, folder / "organize", outputs))

    def run(stage: StageContext) -> StageResult:
        together.wait(60)
        return organize.run(stage)

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(run, stages))
    assert all(result.error is None for result in results)
    assert len([name for name in library(settings) if name.endswith(".flac")]) == 4
    assert [name for name in library(settings) if "cover" in name] == ["Ana/Colours/cover.png"]
    assert kinds(database).count(("cover:instrumental", "published")) == 1
    assert all(state == "published" for _, state in kinds(database))
