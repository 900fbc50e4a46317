from __future__ import annotations

import math
from dataclasses import replace

import pytest

from ironclad.metadata.derive import AlbumPolicy, Derivation, derive, label, path_fields, with_replay_gain
from ironclad.metadata.fields import FIELDS, flatten
from ironclad.metadata.model import TrackTags

SOURCE = TrackTags(
    title="Song", title_sort="Song", artists=("Ann",), album="Album", album_sort="Album", track=1, isrcs=("US1",),
    asin="B00", barcode="123", musicbrainz_recording_id="rec", musicbrainz_track_id="trk", musicbrainz_album_id="alb",
    musicbrainz_release_group_id="rg", musicbrainz_work_ids=("w1", "w2"), musicbrainz_disc_id="disc",
    musicbrainz_artist_ids=("a1",), musicbrainz_album_artist_ids=("a1",), acoustid_id="ac", acoustid_fingerprint="fp",
    replaygain_track_gain="-7 dB", replaygain_album_gain="-6 dB",
    extra={
        "MUSICBRAINZ_ALBUMCOMMENT": ("deluxe",), "UFID:OTHER": ("u",), "DISCOGS_RELEASE_ID": ("5",), "MY KEY": ("x",),
        "REPLAYGAIN_TRACK_RANGE": ("3 dB",), "R128_TRACK_GAIN": ("5",), "IRONCLAD_JOB": ("old",),
        "ISRC": ("broken",),
    },
)  # fmt: skip
HOW = Derivation(
    stem="instrumental", job_uuid="0190-job", trace_id="trace", engine="center", engine_version="1.0",
    model_sha256=("ab" * 32,),
)  # fmt: skip
SERVER_KEYS = ("MUSICBRAINZ", "ACOUSTID", "ISRC", "ASIN", "UFID", "DISCOGS", "REPLAYGAIN", "R128")


def test_no_id_of_the_source_stays_where_servers_look() -> None:
    keys = set(flatten(derive(SOURCE, HOW)))
    assert not [key for key in keys if key.startswith(SERVER_KEYS)]


def test_the_ids_of_the_source_are_kept_under_own_keys() -> None:
    extra = derive(SOURCE, HOW).extra
    assert {key: values for key, values in extra.items() if key.startswith("IRONCLAD_SOURCE_")} == {
        "IRONCLAD_SOURCE_ACOUSTID_FINGERPRINT": ("fp",),
        "IRONCLAD_SOURCE_ACOUSTID_ID": ("ac",),
        "IRONCLAD_SOURCE_ASIN": ("B00",),
        "IRONCLAD_SOURCE_DISCOGS_RELEASE_ID": ("5",),
        "IRONCLAD_SOURCE_ISRC": ("US1", "broken"),
        "IRONCLAD_SOURCE_MUSICBRAINZ_ALBUMARTISTID": ("a1",),
        "IRONCLAD_SOURCE_MUSICBRAINZ_ALBUMCOMMENT": ("deluxe",),
        "IRONCLAD_SOURCE_MUSICBRAINZ_ALBUMID": ("alb",),
        "IRONCLAD_SOURCE_MUSICBRAINZ_ARTISTID": ("a1",),
        "IRONCLAD_SOURCE_MUSICBRAINZ_DISCID": ("disc",),
        "IRONCLAD_SOURCE_MUSICBRAINZ_RELEASEGROUPID": ("rg",),
        "IRONCLAD_SOURCE_MUSICBRAINZ_RELEASETRACKID": ("trk",),
        "IRONCLAD_SOURCE_MUSICBRAINZ_TRACKID": ("rec",),
        "IRONCLAD_SOURCE_MUSICBRAINZ_WORKID": ("w1", "w2"),
        "IRONCLAD_SOURCE_UFID:OTHER": ("u",),
    }


def test_provenance_is_written_and_the_rest_stays() -> None:
    derived = derive(SOURCE, HOW)
    own = {key: values for key, values in derived.extra.items() if not key.startswith("IRONCLAD_SOURCE_")}
    assert own == {
        "IRONCLAD_ENGINE": ("center 1.0",),
        "IRONCLAD_JOB": ("0190-job",),
        "IRONCLAD_MODEL_SHA256": ("ab" * 32,),
        "IRONCLAD_STEM": ("instrumental",),
        "IRONCLAD_TRACE_ID": ("trace",),
        "MY KEY": ("x",),
    }
    assert (derived.artists, derived.track, derived.barcode) == (("Ann",), 1, "123")


@pytest.mark.parametrize(
    ("policy", "title", "album", "album_sort"),
    [
        (AlbumPolicy.OWN_ALBUM, "Song (Instrumental)", "Album (Instrumentals)", "Album (Instrumentals)"),
        (AlbumPolicy.SAME_ALBUM, "Song (Instrumental)", "Album", "Album"),
    ],
)
def test_policies(policy: AlbumPolicy, title: str, album: str, album_sort: str) -> None:
    derived = derive(SOURCE, replace(HOW, policy=policy))
    assert (derived.title, derived.title_sort) == (title, title)
    assert (derived.album, derived.album_sort) == (album, album_sort)


@pytest.mark.parametrize("policy", AlbumPolicy)
def test_a_result_beside_another_is_a_track_of_its_own(policy: AlbumPolicy) -> None:
    """Its number in the album is taken, whatever the policy: servers would take the two for one."""
    how = replace(HOW, policy=policy, result="demucs")
    derived = derive(SOURCE, how)
    assert (derived.title, derived.album) == ("Song (Instrumental, demucs)", "Album (Instrumentals, demucs)")
    assert derived.extra["IRONCLAD_STEM"] == ("instrumental",)
    fields = path_fields(SOURCE, how)
    assert (fields["stem"], fields["stems"]) == ("Instrumental, demucs", "Instrumentals, demucs")


def test_names_are_not_marked_twice_and_missing_ones_are_filled() -> None:
    derived = derive(TrackTags(title="Song (instrumental)", album="X (Instrumentals)"), HOW)
    assert (derived.title, derived.album) == ("Song (instrumental)", "X (Instrumentals)")
    nameless = derive(TrackTags(), HOW)
    assert (nameless.title, nameless.album) == ("Instrumental", "Instrumentals")
    assert derive(TrackTags(), replace(HOW, policy=AlbumPolicy.SAME_ALBUM)).album is None


def test_the_album_artist_is_filled() -> None:
    assert derive(SOURCE, HOW).album_artists == ("Ann",)
    assert derive(replace(SOURCE, compilation=True), HOW).album_artists == ("Various Artists",)
    assert derive(replace(SOURCE, album_artists=("Band",)), HOW).album_artists == ("Band",)


def test_deriving_from_a_derived_recording_keeps_the_first_source() -> None:
    again = derive(
        replace(derive(SOURCE, HOW), musicbrainz_recording_id="other"), replace(HOW, stem="drums", job_uuid="2")
    )
    assert again.extra["IRONCLAD_SOURCE_MUSICBRAINZ_TRACKID"] == ("rec",)
    assert again.extra["IRONCLAD_JOB"] == ("2",)
    assert again.title == "Song (Instrumental) (Drums)"


def test_engines_without_weights_name_no_model() -> None:
    assert "IRONCLAD_MODEL_SHA256" not in derive(SOURCE, replace(HOW, model_sha256=())).extra


@pytest.mark.parametrize(
    ("stem", "one", "many"),
    [
        ("instrumental", "Instrumental", "Instrumentals"), ("no_vocals", "Instrumental", "Instrumentals"),
        ("accompaniment", "Instrumental", "Instrumentals"), ("vocals", "Vocals", "Vocals"), ("Drums", "Drums", "Drums"),
        ("lead_synth", "Lead Synth", "Lead Synth"), ("", "Stem", "Stem"),
    ],
)  # fmt: skip
def test_labels(stem: str, one: str, many: str) -> None:
    assert (label(stem).one, label(stem).many) == (one, many)


def test_replay_gain_is_that_of_the_new_recording() -> None:
    tags = with_replay_gain(SOURCE, integrated_lufs=-10.5, peak=0.98)
    assert tags.replaygain_track_gain == "-7.50 dB"
    assert tags.replaygain_track_peak == "0.980000"
    assert tags.replaygain_album_gain is None
    assert with_replay_gain(TrackTags(), integrated_lufs=-20, peak=1.2).replaygain_track_gain == "2.00 dB"


@pytest.mark.parametrize("lufs", [-math.inf, math.nan, -70.0, -80.0])
def test_silence_has_no_gain(lufs: float) -> None:
    tags = with_replay_gain(SOURCE, integrated_lufs=lufs, peak=0.0)
    assert tags.replaygain_track_gain is None
    assert tags.replaygain_reference_loudness is None
    assert tags.replaygain_track_peak == "0.000000"


def test_path_fields() -> None:
    fields = path_fields(SOURCE, HOW)
    assert fields["albumartist"] == "Ann"
    assert fields["source_album"] == "Album"
    assert fields["album"] == "Album (Instrumentals)"
    assert fields["title"] == "Song (Instrumental)"
    assert path_fields(replace(SOURCE, compilation=True), HOW)["albumartist"] == "Various Artists"
    assert path_fields(replace(SOURCE, compilation=True, album_artists=("X",)), HOW)["albumartist"] == "X"
    assert path_fields(TrackTags(), HOW)["artist"] == ""


def test_every_matching_key_of_the_table_is_covered() -> None:
    full = TrackTags(
        **{
            entry.name: (("x",) if isinstance(getattr(TrackTags(), entry.name), tuple) else "x")
            for entry in FIELDS
            if entry.key.startswith(("MUSICBRAINZ", "ACOUSTID", "REPLAYGAIN"))
        }  # type: ignore[arg-type]  # chosen by name
    )
    derived = derive(full, HOW)
    assert not [key for key in flatten(derived) if key.startswith(SERVER_KEYS)]
