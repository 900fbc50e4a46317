"""The metadata stage with MusicBrainz and the Cover Art Archive: what it asks, what it keeps, and outages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa
from stage_contexts import context, read_outputs

from ironclad.config import Settings
from ironclad.errors import Cancelled, ConfigError
from ironclad.jobs import lease, submit
from ironclad.metadata.candidate import Candidate
from ironclad.metadata.http import Manners
from ironclad.metadata.model import Picture, PictureType, TrackTags
from ironclad.metadata.shared import Outage
from ironclad.stages import metadata, online

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from ironclad.db.session import Database
    from ironclad.stages.context import StageResult

    Stage = Callable[..., StageResult]

UNTITLED = TrackTags(title="Song", artists=("Ann",))
"""Without an album: somebody may be asked."""
OFF: Mapping[str, object] = {"enabled": False}


@pytest.fixture
def claim(database: Database, settings: Settings, tmp_path: Path) -> lease.Claim:
    file = tmp_path / "Song.flac"
    file.write_bytes(b"x")
    new = submit.NewJob(user_id="ana", source=file, relative_path="Song.flac", stat=file.stat())
    with database.session() as session:
        job = submit.receive(session, new, settings)
        submit.claimed(session, job.job_uuid, "ab")
    with database.session() as session:
        claim = lease.claim(session, job.job_uuid, 1, worker="test", lease_seconds=30)
    assert claim is not None
    return claim


@pytest.fixture
def run(database: Database, settings: Settings, claim: lease.Claim, service: Any, tmp_path: Path) -> Stage:
    """`run(tags, pictures, musicbrainz={…}, cover_art={…})` runs the stage; each run has a folder of its own."""
    runs = iter(range(100))

    def go(
        tags: TrackTags, pictures: tuple[Picture, ...] = (), *, musicbrainz: Mapping[str, object] | None = None,
        cover_art: Mapping[str, object] | None = None, check: Callable[[], None] = lambda: None,
        template: str = "",
    ) -> StageResult:  # fmt: skip
        mine = Settings.model_validate({
            **settings.model_dump(),
            "output": {"template": template},
            "metadata": {
                "musicbrainz": {
                    "enabled": True, "url": service.url, "interval_seconds": 0, "attempts": 1, "timeout_seconds": 60,
                    **(musicbrainz or {}),
                },
                "cover_art": cover_art or OFF,
            },
        })  # fmt: skip
        folder = tmp_path / f"run-{next(runs)}"
        given = context(database, mine, claim, folder / "metadata", read_outputs(folder, tags, pictures))
        object.__setattr__(given, "check", check)
        return metadata.run(given)

    return go


def test_what_is_missing_is_filled_and_nothing_else(run: Stage) -> None:
    result = run(TrackTags(title="song", artists=("Ann",)))
    tags = TrackTags.from_dict(result.data["reading"]["tags"])
    assert (tags.title, tags.album, tags.date, tags.track) == ("song", "Album", "2001-05-03", 3)
    assert tags.musicbrainz_album_id == "r1"
    assert result.data["origins"]["album"] == "musicbrainz"
    assert result.data["origins"]["title"] == "tag"
    assert result.data["lookup"]["status"] == "matched"
    assert TrackTags.from_dict(result.data["read"]) == TrackTags(title="song", artists=("Ann",))
    assert result.facts["album"] == "Album"


def test_musicbrainz_knows_better_than_the_name_of_a_file(run: Stage, claim: lease.Claim) -> None:
    claim.job.relative_path = "Somebody/Downloads 2/01 - Song.flac"
    result = run(TrackTags(title="Song", artists=("Ann",)))
    tags = TrackTags.from_dict(result.data["reading"]["tags"])
    assert (tags.album, tags.track) == ("Album", 3)


def test_complete_tags_ask_nobody(run: Stage, service: Any) -> None:
    result = run(TrackTags(title="Song", artists=("Ann",), album="Mine"))
    assert result.data["lookup"]["status"] == "not-needed"
    assert service.asked == []


def test_nobody_is_asked_unless_that_is_wanted(run: Stage, service: Any) -> None:
    result = run(UNTITLED, musicbrainz=OFF)
    assert result.data["lookup"] is None
    assert result.data["cover"] == "not-asked"
    assert service.asked == []
    assert Settings().metadata.musicbrainz.enabled is Settings().metadata.cover_art.enabled is False


def test_a_doubtful_match_changes_nothing_and_is_kept_for_the_operator(run: Stage, service: Any) -> None:
    result = run(TrackTags(title="Quite another", artists=("Zed",)))
    tags = TrackTags.from_dict(result.data["reading"]["tags"])
    assert (tags.title, tags.artists, tags.album) == ("Quite another", ("Zed",), None)
    assert result.data["lookup"]["status"] == "ambiguous"
    assert [candidate["title"] for candidate in result.data["lookup"]["candidates"]] == ["Song"]


def test_what_was_chosen_asks_nobody(run: Stage, service: Any, claim: lease.Claim) -> None:
    claim.job.options = {online.CHOSEN: Candidate(recording_id="r", title="Song", album="Chosen").to_dict()}
    result = run(UNTITLED)
    assert TrackTags.from_dict(result.data["reading"]["tags"]).album == "Chosen"
    assert service.asked == []


def test_an_outage_fails_nothing_and_is_found_once(run: Stage, service: Any, database: Database) -> None:
    service.faults.extend(["503"] * 50)
    for _ in range(3):
        result = run(UNTITLED)
        assert result.data["lookup"]["status"] == "unavailable"
        assert TrackTags.from_dict(result.data["reading"]["tags"]).title == "Song"
    assert len(service.asked) == 1  # two jobs did not even ask
    Outage(database, "musicbrainz").end()
    service.faults.clear()
    assert run(UNTITLED).data["lookup"]["status"] == "matched"


def test_a_503_storm_is_waited_out(run: Stage, service: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    quick = Manners(interval=0.0, timeout=60, backoff=0.01, attempts=4)
    monkeypatch.setattr(online, "_manners", lambda _settings, _interval: quick)
    service.faults.extend(["503", "cut", "html"])
    assert run(UNTITLED).data["lookup"]["status"] == "matched"
    assert len(service.asked) == 4


def test_a_database_that_is_away_counts_as_an_outage(
    run: Stage, database: Database, service: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "url", database.url.set(port=1))
    monkeypatch.setattr(database, "engine", sa.create_engine("postgresql+psycopg://nobody@127.0.0.1:1/none"))
    assert run(UNTITLED).data["lookup"]["status"] == "unavailable"
    assert service.asked == []


def test_a_cancel_is_heard_while_waiting(run: Stage, service: Any) -> None:
    service.faults.append("503")

    def cancelled() -> None:
        if service.asked:
            raise Cancelled

    with pytest.raises(Cancelled):
        run(UNTITLED, musicbrainz={"attempts": 4}, check=cancelled)


def test_a_second_run_asks_nothing(run: Stage, service: Any, jpeg: bytes) -> None:
    service.cover = jpeg
    first = run(UNTITLED, cover_art={"enabled": True, "url": service.url})
    asked = len(service.asked)
    assert asked == 2
    again = run(UNTITLED, cover_art={"enabled": True, "url": service.url})
    assert len(service.asked) == asked  # every answer came from a cache
    assert again.data == first.data


def test_a_cover_is_fetched_for_who_has_none(run: Stage, service: Any, settings: Settings, jpeg: bytes) -> None:
    service.cover = jpeg
    result = run(UNTITLED, cover_art={"enabled": True, "url": service.url})
    assert result.data["cover"] == "found"
    [picture] = result.data["reading"]["pictures"]
    assert (picture["file"], picture["mime"], picture["type"]) == ("fetched.jpg", "image/jpeg", 3)
    assert list(settings.layout.cover_art_cache.rglob("*.bin"))


def test_who_has_a_cover_is_not_given_another(run: Stage, service: Any, jpeg: bytes) -> None:
    own = Picture(PictureType.BACK_COVER, "image/jpeg", "", 1, 1, data=jpeg)
    result = run(UNTITLED, (own,), cover_art={"enabled": True, "url": service.url})
    assert result.data["cover"] == "not-asked"
    assert len(service.asked) == 1


def test_a_cover_outage_is_pending_and_found_once(run: Stage, service: Any) -> None:
    service.faults.extend(["", "503", "503", "503"])
    for _ in range(2):
        result = run(UNTITLED, cover_art={"enabled": True, "url": service.url})
        assert (result.data["lookup"]["status"], result.data["cover"]) == ("matched", "unavailable")
    assert len(service.asked) == 2


def test_pictures_that_not_every_player_reads_become_jpeg(run: Stage, webp: bytes) -> None:
    result = run(UNTITLED, (Picture(PictureType.FRONT_COVER, "image/webp", "", 8, 8, data=webp),), musicbrainz=OFF)
    [picture] = result.data["reading"]["pictures"]
    assert picture["mime"] == "image/jpeg"
    [change] = result.data["picture_changes"]
    assert change["reason"] == "converted from image/webp to JPEG"


def test_a_template_that_cannot_work_is_told_before_the_work(run: Stage) -> None:
    with pytest.raises(ConfigError, match=r"line 1, column 17: there is no field 'nothing'"):
        run(UNTITLED, template="{{ artist }}/{{ nothing }}")


def test_art_that_is_no_image_is_left_out_and_told(run: Stage) -> None:
    result = run(UNTITLED, (Picture(PictureType.FRONT_COVER, "image/webp", data=b"RIFFxxxxWEBP"),), musicbrainz=OFF)
    assert result.data["reading"]["pictures"] == []
    assert "could not be converted" in result.data["picture_changes"][0]["reason"]
