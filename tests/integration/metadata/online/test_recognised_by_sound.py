"""Tracks that words do not find are found by their sound; what goes wrong with that never costs a job anything."""

from __future__ import annotations

import shutil
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soundfile
import sqlalchemy as sa
from stage_contexts import claimed, context, published_job, read_outputs

from ironclad.audio.fingerprint import PROGRAM, Fingerprint, fingerprint
from ironclad.audio.info import AudioLimits
from ironclad.config import Settings
from ironclad.metadata.lookup import Status
from ironclad.metadata.model import TrackTags
from ironclad.metadata.shared import Outage
from ironclad.ops.checks import audio as checks
from ironclad.ops.checks.outcome import Level
from ironclad.ops.library import known
from ironclad.ops.library.retag import Retagger
from ironclad.stages import metadata, online

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ironclad.db.session import Database

    Look = Callable[..., online.Found]

PRINT = "AQAAS8siScqURAnuF8"
NAMELESS = PurePath("aud_0027.flac")
SECONDS = 210.0
needs_fpcalc = pytest.mark.skipif(
    shutil.which(PROGRAM) is None, reason="fpcalc is not installed (Debian: libchromaprint-tools)"
)


def asking(settings: Settings, service: Any, **acoustid: Any) -> Settings:
    musicbrainz = {"enabled": True, "url": service.url, "interval_seconds": 0, "attempts": 1, "timeout_seconds": 60}
    sound = {"enabled": True, "url": service.url, "client_key": "the-key", "interval_seconds": 0, **acoustid}
    return Settings.model_validate({
        **settings.model_dump(), "metadata": {"musicbrainz": musicbrainz, "acoustid": sound},
    })  # fmt: skip


@pytest.fixture
def look(database: Database, settings: Settings, service: Any) -> Look:
    """`look(tags, sound)` asks as the metadata stage does."""

    def go(
        tags: TrackTags | None = None, sound: Fingerprint | None = None, *, patient: bool = False, **acoustid: Any
    ) -> online.Found:
        heard = Fingerprint(PRINT) if sound is None else sound
        return online.look(
            database, asking(settings, service, **acoustid), tags or TrackTags(), NAMELESS, SECONDS,
            sound=lambda: heard, patient=patient,
        )  # fmt: skip

    return go


def paths(service: Any) -> list[str]:
    return [asked.path for asked in service.asked]


def test_a_track_without_tags_is_found(look: Look, service: Any) -> None:
    service.sounds[PRINT] = {"rec1": 0.97}
    found = look()
    assert found.lookup is not None
    assert (found.lookup.status, found.lookup.detail) == (Status.MATCHED, "by its sound")
    assert found.candidate is not None
    assert (found.candidate.title, found.candidate.album_id, found.fingerprint) == ("Song", "r1", PRINT)
    assert paths(service) == ["/v2/lookup", "/ws/2/recording/rec1"]
    assert look().lookup == found.lookup
    assert len(service.asked) == 2  # a second run asks nobody


def test_it_is_not_asked_about_what_words_find(look: Look, service: Any) -> None:
    found = look(TrackTags(title="Song", artists=("Ann",)))
    assert found.lookup is not None
    assert found.lookup.status is Status.MATCHED
    assert "/v2/lookup" not in paths(service)
    assert found.fingerprint == ""


def test_it_settles_what_words_leave_open(look: Look, service: Any) -> None:
    tags = TrackTags(title="Sogn")
    before = look(tags, enabled=False)
    service.sounds[PRINT] = {"rec1": 1.0}
    after = look(tags)
    assert before.candidate is None
    assert after.candidate is not None
    assert after.candidate.recording_id == "rec1"


@pytest.mark.parametrize("setting", [{"enabled": False}, {"client_key": None}])
def test_it_is_not_asked_unless_that_is_wanted(setting: dict[str, Any], look: Look, service: Any) -> None:
    found = look(**setting)
    assert found.lookup is not None
    assert (found.lookup.status, found.fingerprint) == (Status.NONE, "")
    assert service.asked == []
    assert Settings().metadata.acoustid.enabled is False


def test_without_a_fingerprint_the_answer_stands_and_says_why(look: Look, service: Any) -> None:
    found = look(sound=Fingerprint(problem="fpcalc is not installed"))
    assert found.lookup is not None
    assert found.lookup.status is Status.NONE
    assert "fpcalc is not installed" in found.lookup.detail
    assert service.asked == []


@pytest.mark.parametrize("fault", ["503", "drop", "html", "cut"])
def test_its_outage_waits_for_retag_and_is_found_once(fault: str, look: Look, service: Any, database: Database) -> None:
    service.sounds[PRINT] = {"rec1": 0.97}
    service.faults.append(fault)
    for _ in range(3):
        found = look()
        assert found.lookup is not None
        assert (found.lookup.status, found.candidate, found.fingerprint) == (Status.UNAVAILABLE, None, PRINT)
    assert paths(service) == ["/v2/lookup"]
    assert not Outage(database, "musicbrainz").lasts()
    assert look(patient=True).candidate is not None
    assert look().candidate is not None


def test_a_refused_key_waits_for_a_better_one(look: Look, service: Any) -> None:
    service.sounds[PRINT] = {"rec1": 0.97}
    found = look(client_key="wrong")
    assert found.lookup is not None
    assert (found.lookup.status, "invalid API key" in found.lookup.detail) == (Status.UNAVAILABLE, True)
    assert look(patient=True).candidate is not None


def test_an_outage_of_musicbrainz_on_the_way_is_its_own(look: Look, service: Any, database: Database) -> None:
    service.sounds[PRINT] = {"rec1": 0.97}
    service.faults.extend(["", "503"])
    found = look()
    assert found.lookup is not None
    assert (found.lookup.status, found.fingerprint) == (Status.UNAVAILABLE, PRINT)
    assert Outage(database, "musicbrainz").lasts()
    assert not Outage(database, "acoustid").lasts()


@needs_fpcalc
def test_the_stage_listens_and_retag_remembers_what_it_heard(
    database: Database, settings: Settings, service: Any, tmp_path: Path, audio: Callable[..., Path],
) -> None:  # fmt: skip
    mine = asking(settings, service)
    claim = claimed(database, mine, tmp_path / "in" / NAMELESS)
    song = tmp_path / "song.flac"
    soundfile.write(song, np.random.default_rng(1).uniform(-0.5, 0.5, (22_050 * 12, 2)), 22_050)
    sound = fingerprint(song, AudioLimits()).text
    assert sound
    service.sounds[sound] = {"rec1": 0.97}
    service.faults.append("503")

    given = context(database, mine, claim, tmp_path / "run" / "metadata", read_outputs(tmp_path / "run", TrackTags()))
    object.__setattr__(given, "source", song)
    result = metadata.run(given)
    assert (result.data["lookup"]["status"], result.data["fingerprint"]) == ("unavailable", sound)
    assert "the-key" not in str(result.data)

    # The original is gone by then: what was heard is on record.
    Outage(database, "acoustid").end()
    job = published_job(database, mine, claim, tmp_path / "job", TrackTags(), audio("flac"))
    with database.session() as session:
        session.execute(
            sa.text("UPDATE stage_run SET data = data || jsonb_build_object('fingerprint', CAST(:text AS text), "
                    "'lookup', jsonb_build_object('status', 'unavailable', 'detail', '', 'candidates', '[]'::jsonb)) "
                    "WHERE stage = 'metadata'"),
            {"text": sound},
        )  # fmt: skip
        session.execute(sa.text("UPDATE job SET duration_seconds = :seconds"), {"seconds": SECONDS})
    done = Retagger(database, mine, "test").retag(job)
    assert done.lookup is not None
    assert done.lookup.status is Status.MATCHED
    with database.session() as session:
        [one] = known.files(session, job)
        assert known.pending(session) == []
    assert one.tags().title == "Song"


@needs_fpcalc
def test_the_doctor_tries_it(settings: Settings, service: Any) -> None:
    (found,) = checks.fingerprints(asking(settings, service))
    assert (found.level, "works in its sandbox" in found.detail) == (Level.OK, True)


def test_the_doctor_says_what_is_missing(settings: Settings, service: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    (without,) = checks.fingerprints(asking(settings, service))
    assert (without.level, "libchromaprint-tools" in without.remedy) == (Level.WARN, True)
    (keyless,) = checks.fingerprints(asking(settings, service, client_key=None))
    assert (keyless.level, "client key" in keyless.detail) == (Level.WARN, True)
    (off,) = checks.fingerprints(settings)
    assert off.level is Level.OK
    alone = Settings.model_validate({**settings.model_dump(), "metadata": {"acoustid": {"enabled": True}}})
    (lonely,) = checks.fingerprints(alone)
    assert (lonely.level, "MusicBrainz" in lonely.detail) == (Level.WARN, True)
