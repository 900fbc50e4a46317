from __future__ import annotations

import os
from pathlib import Path

import pytest

from ironclad.config import IngestSettings, Settings, WatchRoot
from ironclad.errors import ConfigError
from ironclad.ingest import places
from ironclad.ingest.places import Reach, foreign_folders, health, place_of, require_a_place_of_its_own, split


def test_the_first_folder_is_the_user() -> None:
    place = split(WatchRoot(path=Path("/in")), "ana/Album/01.flac")
    assert (place.user_id, place.relative_path, place.below_root) == ("ana", "Album/01.flac", "ana/Album/01.flac")


def test_a_file_in_the_root_itself_belongs_to_the_default_user() -> None:
    place = split(WatchRoot(path=Path("/in")), "01.flac")
    assert (place.user_id, place.relative_path) == (places.DEFAULT_USER, "01.flac")


def test_a_root_with_a_user_keeps_every_folder() -> None:
    place = split(WatchRoot(path=Path("/in"), user="ben"), "Album/01.flac")
    assert (place.user_id, place.relative_path) == ("ben", "Album/01.flac")


def test_a_users_name_is_readable_text() -> None:
    assert split(WatchRoot(path=Path("/in")), "a\nb/01.flac").user_id == "a\\nb"
    assert split(WatchRoot(path=Path("/in")), "\udcff/01.flac").user_id == "\\xff"


def test_place_of_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = WatchRoot(path=tmp_path / "in")
    nested = WatchRoot(path=tmp_path / "in" / "special", user="zoe")
    (tmp_path / "in" / "special").mkdir(parents=True)
    found = place_of([root, nested], tmp_path / "in" / "ana" / "x.mp3")
    assert found is not None
    assert (found.root, found.user_id) == (root, "ana")
    inner = place_of([root, nested], tmp_path / "in" / "special" / "x.mp3")
    assert inner is not None
    assert (inner.root, inner.relative_path) == (nested, "x.mp3")
    assert place_of([root], tmp_path / "in") is None
    assert place_of([root], tmp_path / "in2" / "x.mp3") is None
    assert place_of([root], tmp_path / "in" / ".." / "x.mp3") is None
    monkeypatch.chdir(tmp_path / "in")
    relative = place_of([root], Path("ana/x.mp3"))
    assert relative is not None
    assert relative.below_root == "ana/x.mp3"


def test_a_root_behind_a_link_is_found_by_both_names(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "in").symlink_to(tmp_path / "disk")
    root = WatchRoot(path=tmp_path / "in")
    for name in ("in", "disk"):
        found = place_of([root], tmp_path / name / "x.mp3")
        assert found is not None
        assert found.below_root == "x.mp3"


def test_other_roots_and_ironclads_own_folders_are_foreign(tmp_path: Path) -> None:
    root = WatchRoot(path=tmp_path)
    other = WatchRoot(path=tmp_path / "nas" / "drop")
    settings = Settings(data_dir=tmp_path / "data", ingest=IngestSettings(roots=(root, other)))
    foreign = foreign_folders(settings, root)
    assert {"nas/drop", "data/archive", "data/output", "data/error", "data/work", "data/postgres"} <= foreign
    assert "data/input" not in foreign
    assert foreign_folders(settings, other) == frozenset()


@pytest.mark.parametrize("name", ["output", "output/new", "archive/x", "work"])
def test_no_root_is_in_a_folder_of_ironclads_own(tmp_path: Path, name: str) -> None:
    settings = Settings(data_dir=tmp_path / "data")
    settings.layout.create()
    (tmp_path / "link").symlink_to(settings.layout.root)
    for path in (settings.layout.root / name, tmp_path / "link" / name, tmp_path / "x" / ".." / "data" / name):
        with pytest.raises(ConfigError, match="a folder of Ironclad's own"):
            require_a_place_of_its_own(settings, WatchRoot(path=path))


@pytest.mark.parametrize("name", [".", "..", "input", "input/ana", "outputs"])
def test_other_folders_may_be_roots(tmp_path: Path, name: str) -> None:
    require_a_place_of_its_own(Settings(data_dir=tmp_path / "data"), WatchRoot(path=tmp_path / "data" / name))


def test_health_of_a_root(tmp_path: Path) -> None:
    device = os.stat(tmp_path).st_dev  # noqa: PTH116 - the device, not a path question
    assert health(tmp_path / "none", device).reach is Reach.MISSING
    assert health(tmp_path, device).known
    assert health(tmp_path, None).known
    emptied = health(tmp_path, device + 1)
    assert emptied.reach is Reach.EMPTIED
    assert not emptied.known
    assert "mount" in emptied.sentence
    (tmp_path / "ana").mkdir()
    assert health(tmp_path, device + 1).known  # another disk with something in it is the root now
