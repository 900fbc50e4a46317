from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from ironclad.errors import Cancelled, StorageError
from ironclad.library.naming import PathTemplate, TrackName
from ironclad.library.receipt import sidecar
from ironclad.library.refile import Move, plan_refile, refile

BY_YEAR = PathTemplate("{{ albumartist }}/{{ year }} - {{ source_album }}/{{ track | pad }} {{ title }}")
FLAT = PathTemplate("{{ title }}")


def name(number: int, title: str = "", **values: object) -> TrackName:
    base: dict[str, object] = {
        "albumartist": "Ann", "source_album": "Album", "date": "2001", "track": number,
        "title": title or f"Song {number}",
    }  # fmt: skip
    return TrackName(**(base | values))  # type: ignore[arg-type]  # any field


def library(root: Path, *paths: str) -> None:
    for path in paths:
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(path)
        sidecar(file).write_text(f"receipt of {path}")


def files(root: Path) -> dict[str, str]:
    return {
        path.relative_to(root).as_posix(): path.read_text()
        for path in sorted(root.rglob("*"))
        if path.is_file() and not path.name.endswith(".receipt.json")
    }


def test_a_new_template_moves_tracks_and_receipts(tmp_path: Path) -> None:
    library(tmp_path, "Ann/Album/01 - Song 1.flac", "Ann/Album/02 - Song 2.mp3")
    tracks = [(PurePosixPath(f"Ann/Album/0{n} - Song {n}.{kind}"), name(n)) for n, kind in ((1, "flac"), (2, "mp3"))]
    moves = plan_refile(tracks, BY_YEAR)
    assert moves == [
        Move(PurePosixPath("Ann/Album/01 - Song 1.flac"), PurePosixPath("Ann/2001 - Album/01 Song 1.flac")),
        Move(PurePosixPath("Ann/Album/02 - Song 2.mp3"), PurePosixPath("Ann/2001 - Album/02 Song 2.mp3")),
    ]
    assert files(tmp_path) == {str(path): str(path) for path, _ in tracks}, "planning changes nothing"
    assert list(refile(tmp_path, moves)) == moves
    assert files(tmp_path) == {
        "Ann/2001 - Album/01 Song 1.flac": "Ann/Album/01 - Song 1.flac",
        "Ann/2001 - Album/02 Song 2.mp3": "Ann/Album/02 - Song 2.mp3",
    }
    receipt = sidecar(tmp_path / "Ann/2001 - Album/01 Song 1.flac")
    assert receipt.read_text() == "receipt of Ann/Album/01 - Song 1.flac"
    assert not (tmp_path / "Ann/Album").exists()


def test_a_second_run_plans_nothing() -> None:
    tracks = [(PurePosixPath(f"{n}.flac"), name(n, "Same")) for n in range(3)]
    first = plan_refile(tracks, FLAT)
    assert sorted(str(move.target) for move in first) == ["Same (2).flac", "Same (3).flac", "Same.flac"]
    by_source = {move.source: move.target for move in first}
    assert plan_refile([(by_source[path], track) for path, track in tracks], FLAT) == []


def test_tracks_can_trade_places(tmp_path: Path) -> None:
    library(tmp_path, "A.flac", "B.flac", "C.flac")
    tracks = [(PurePosixPath(f"{old}.flac"), name(1, new)) for old, new in (("A", "B"), ("B", "C"), ("C", "A"))]
    moves = plan_refile(tracks, FLAT)
    assert len(list(refile(tmp_path, moves))) == 3
    assert files(tmp_path) == {"B.flac": "A.flac", "C.flac": "B.flac", "A.flac": "C.flac"}
    assert sidecar(tmp_path / "B.flac").read_text() == "receipt of A.flac"


def test_a_change_of_case_is_a_move(tmp_path: Path) -> None:
    library(tmp_path, "song.flac")
    moves = plan_refile([(PurePosixPath("song.flac"), name(1, "Song"))], FLAT)
    assert [str(move.target) for move in moves] == ["Song.flac"]
    list(refile(tmp_path, moves))
    assert files(tmp_path) == {"Song.flac": "song.flac"}


def test_strangers_keep_their_places(tmp_path: Path) -> None:
    tracks = [(PurePosixPath("x.flac"), name(1, "Taken"))]
    (move,) = plan_refile(tracks, FLAT, others=[PurePosixPath("TAKEN.flac")])
    assert str(move.target) == "Taken (2).flac"

    library(tmp_path, "x.flac", "Taken.flac")
    with pytest.raises(StorageError, match="exists already"):
        list(refile(tmp_path, plan_refile(tracks, FLAT)))
    assert files(tmp_path) == {"x.flac": "x.flac", "Taken.flac": "Taken.flac"}


def test_folders_with_other_files_stay(tmp_path: Path) -> None:
    library(tmp_path, "Ann/Album/1.flac")
    (tmp_path / "Ann" / "Album" / "notes.txt").write_text("mine")
    list(refile(tmp_path, plan_refile([(PurePosixPath("Ann/Album/1.flac"), name(1))], FLAT)))
    assert files(tmp_path) == {"Ann/Album/notes.txt": "mine", "Song 1.flac": "Ann/Album/1.flac"}


def test_it_can_be_stopped_and_gone_on_with(tmp_path: Path) -> None:
    library(tmp_path, "a/1.flac", "a/2.flac")
    tracks = [(PurePosixPath(f"a/{n}.flac"), name(n)) for n in (1, 2)]
    moves = plan_refile(tracks, FLAT)
    calls: list[int] = []

    def check() -> None:
        calls.append(1)
        if len(calls) == 2:
            raise Cancelled

    with pytest.raises(Cancelled):
        list(refile(tmp_path, moves, check=check))
    assert files(tmp_path) == {"Song 1.flac": "a/1.flac", "a/2.flac": "a/2.flac"}
    list(refile(tmp_path, moves[1:]))
    assert files(tmp_path) == {"Song 1.flac": "a/1.flac", "Song 2.flac": "a/2.flac"}


def test_a_file_that_comes_into_a_folder_just_as_it_is_removed_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library(tmp_path, "Ann/Album/1.flac")
    album = tmp_path / "Ann" / "Album"
    for removal in ("rename", "rmdir"):
        remove = getattr(Path, removal)

        def late(path: Path, *arguments: Path, remove: Any = remove) -> Any:
            if path == album:  # a worker publishes the album's next song
                (album / "2.flac").write_text("published")
            return remove(path, *arguments)

        monkeypatch.setattr(Path, removal, late)
    list(refile(tmp_path, plan_refile([(PurePosixPath("Ann/Album/1.flac"), name(1))], FLAT)))
    assert files(tmp_path) == {"Ann/Album/2.flac": "published", "Song 1.flac": "Ann/Album/1.flac"}


def test_a_strangers_receipt_in_the_way_moves_nothing(tmp_path: Path) -> None:
    library(tmp_path, "x.flac")
    sidecar(tmp_path / "Song.flac").write_text("left by somebody")
    with pytest.raises(StorageError, match="receipt"):
        list(refile(tmp_path, plan_refile([(PurePosixPath("x.flac"), name(1, "Song"))], FLAT)))
    assert files(tmp_path) == {"x.flac": "x.flac"}
    assert sidecar(tmp_path / "x.flac").read_text() == "receipt of x.flac"


@pytest.mark.parametrize("also", ["free", "taken"])
def test_a_plan_that_ends_early_hides_no_track(tmp_path: Path, also: str) -> None:
    library(tmp_path, "A.flac", "B.flac", "X.flac")
    sidecar(tmp_path / "Y.flac").write_text("left by somebody")
    tracks = [(PurePosixPath(f"{old}.flac"), name(1, new)) for old, new in (("A", "B"), ("B", "A"), ("X", "Y"))]
    moves = plan_refile(tracks, FLAT)
    if also == "taken":  # B does not come to its turn, and is still where A should go
        moves = [moves[0], moves[2], moves[1]]
    with pytest.raises(StorageError, match="receipt"):
        list(refile(tmp_path, moves))
    swapped = {"A.flac": "B.flac", "B.flac": "A.flac"}
    assert files(tmp_path) == {
        "X.flac": "X.flac", **(swapped if also == "free" else {"A.flac": "A.flac", "B.flac": "B.flac"}),
    }  # fmt: skip
    assert sidecar(tmp_path / "B.flac").read_text() == f"receipt of {files(tmp_path)['B.flac']}"
