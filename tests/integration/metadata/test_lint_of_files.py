"""The linter over real files: what Ironclad writes by default passes, beside its originals."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

from ironclad.library.lint import lint
from ironclad.library.naming import PathTemplate, track_name
from ironclad.library.servers import LibraryTrack
from ironclad.metadata.derive import Derivation, derive, path_fields
from ironclad.metadata.facts import server_facts
from ironclad.metadata.model import TrackTags
from ironclad.metadata.read import read_many
from ironclad.metadata.write import write_tags

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

HOW = Derivation(stem="instrumental", job_uuid="j", trace_id="t", engine="center")


def source(album: int, track: int) -> TrackTags:
    return TrackTags(
        title=f"Song {track}", artists=(f"Artist {album}",), album=f"Album {album}", album_artists=(f"Artist {album}",),
        track=track, date="2001", musicbrainz_album_id=f"album-{album}", musicbrainz_track_id=f"track-{album}-{track}",
        musicbrainz_recording_id=f"rec-{album}-{track}", isrcs=("US1",),
    )  # fmt: skip


def library(root: Path, original: Path) -> list[Path]:
    """Twenty albums of five songs each, as originals and as the instrumentals made of them: 200 files."""
    template = PathTemplate()
    paths = []
    for album in range(20):
        for track in range(1, 6):
            tags = source(album, track)
            derived = template.render(track_name(path_fields(tags, HOW)), original.suffix)
            for path, written in (
                (root / "music" / f"Artist {album}" / f"Album {album}" / f"{track}.flac", tags),
                (root / "instrumentals" / derived, derive(tags, HOW)),
            ):
                path.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(original, path)
                write_tags(path, written)
                paths.append(path)
    return paths


def facts(root: Path, paths: list[Path]) -> list[LibraryTrack]:
    return [
        LibraryTrack(path=path.relative_to(root), **server_facts(reading.tags))  # type: ignore[arg-type]  # a pure path
        for path, reading in zip(paths, read_many(paths), strict=True)
    ]


def test_two_hundred_good_files_pass_in_two_seconds(audio: Callable[..., Path], tmp_path: Path) -> None:
    root = tmp_path / "library"
    paths = library(root, audio("flac"))
    assert len(paths) == 200
    before = os.times()
    tracks = facts(root, paths)
    findings = lint(tracks)
    after = os.times()
    assert findings == []
    # Processor time, of the reader's process too: what else runs on this machine does not count.
    assert sum(after[:4]) - sum(before[:4]) < 2
    plain_copies = [replace(track, identifiers=tracks[0].identifiers, stem="x") for track in tracks[:1]]
    assert "kept-identity" in {finding.rule for finding in lint(plain_copies)}


def test_one_bad_file_costs_nobody_else_their_tags(audio: Callable[..., Path], tmp_path: Path) -> None:
    good = audio("flac")
    write_tags(good, TrackTags(title="good"))
    bad = tmp_path / "bad.mp3"
    bad.write_bytes(b"ID3\4\0\0\x7f\x7f\x7f\x7f")
    readings = list(read_many([good, bad, tmp_path / "gone.mp3", good]))
    assert [reading.tags.title for reading in readings] == ["good", None, None, "good"]
    assert readings[2].problems[0].code == "unreadable"


def test_a_batch_that_fails_is_read_one_by_one(audio: Callable[..., Path]) -> None:
    path = audio("flac")
    text = "x" * 250_000
    write_tags(path, TrackTags(title="T", extra={f"KEY{number}": (text,) for number in range(8)}))
    readings = list(read_many([path] * 10))  # together more than the sandbox lets a child say
    assert [reading.tags.title for reading in readings] == ["T"] * 10


def test_reading_nothing_reads_nothing() -> None:
    assert list(read_many([])) == []
