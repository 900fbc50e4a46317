from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from ironclad.config import IngestSettings
from ironclad.errors import UnsafePath
from ironclad.ingest import rules as rules_module
from ironclad.ingest.rules import Rule, Rules

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def rules() -> Rules:
    return Rules(IngestSettings())


@pytest.mark.parametrize(
    "name",
    [
        "01 - Song.flac", "song.MP3", "a/b/c.ogg", "track.wav", "x.m4a", "x.aiff", "x.wma", "x.opus", "näive\n✨.flac",
        "dots.in.name.mp3", "part.mp3", "tmp.flac", "\udcff\udcfe.mp3",
    ],
)  # fmt: skip
def test_music_is_taken(rules: Rules, name: str) -> None:
    assert rules.path(name) is None


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("song.mp3.part", "temporary-name"),
        ("song.flac.CRDOWNLOAD", "temporary-name"),
        ("song.mp3.filepart", "temporary-name"),
        ("song.mp3.!qB", "temporary-name"),
        ("song.tmp", "temporary-name"),
        ("song.mp3~", "temporary-name"),
        (".song.flac.a1B2c3", "sync-temporary"),
        (".syncthing.song.flac.tmp", "sync-temporary"),
        ("~syncthing~song.flac.tmp", "sync-temporary"),
        ("._song.mp3", "apple-double"),
        (".song.mp3", "hidden"),
        ("Thumbs.db", "system-file"),
        ("desktop.ini", "system-file"),
        ("cover.jpg", "sidecar"),
        ("Album.CUE", "sidecar"),
        ("rip.log", "sidecar"),
        ("list.m3u8", "sidecar"),
        ("song.lrc", "sidecar"),
        ("film.mkv", "no-audio-suffix"),
        ("noname", "no-audio-suffix"),
        ("mp3", "no-audio-suffix"),
        ("@eaDir/song.mp3", "system-folder"),
        ("ana/#recycle/x/song.mp3", "system-folder"),
        ("ana/.stfolder/song.mp3", "hidden"),
        (".stversions/song.mp3", "hidden"),
    ],
)
def test_what_is_not_taken_and_by_which_rule(rules: Rules, name: str, rule: str) -> None:
    found = rules.path(name)
    assert found is not None
    assert found.name == rule


def test_the_operators_patterns_match_names_paths_and_folders() -> None:
    rules = Rules(IngestSettings(ignore=("*.demo.mp3", "ana/raw/*", "bounces")))
    assert rules.path("ana/x.demo.mp3") == rules_module.user_glob("*.demo.mp3")
    assert rules.path("ana/raw/x.mp3") == rules_module.user_glob("ana/raw/*")
    assert rules.path("ben/bounces/x.mp3") == rules_module.user_glob("bounces")
    assert rules.path("ben/x.mp3") is None
    found = rules.path("ana/x.demo.mp3")
    assert found is not None
    assert "*.demo.mp3" in found.sentence


def test_every_rule_has_a_name_of_its_own_and_a_sentence() -> None:
    found = [value for value in vars(rules_module).values() if isinstance(value, Rule)]
    assert len({rule.name for rule in found}) == len(found) >= 14
    assert all(rule.sentence.endswith(".") and rule.sentence[0].isupper() for rule in found)


def entry(rules: Rules, root: Path, path: Path) -> Rule | None:
    return rules.entry(root, path, path.lstat())


def test_links(rules: Rules, tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "sub").mkdir(parents=True)
    inside = root / "sub" / "song.mp3"
    inside.write_bytes(b"x")
    outside = tmp_path / "secret.mp3"
    outside.write_bytes(b"x")
    for name, target in {"in": inside, "out": outside, "folder": root / "sub", "broken": tmp_path / "none"}.items():
        (root / f"{name}.mp3").symlink_to(target)
    (root / "far.mp3").symlink_to("sub/../../secret.mp3")

    assert entry(rules, root, inside) is None
    assert entry(rules, root, root / "in.mp3") == rules_module.LINK_INSIDE
    assert entry(rules, root, root / "folder.mp3") == rules_module.LINK_FOLDER
    assert entry(rules, root, root / "broken.mp3") == rules_module.LINK_BROKEN
    for name in ("out.mp3", "far.mp3"):
        found = entry(rules, root, root / name)
        assert found == rules_module.LINK_OUTSIDE
        assert found.refuses is UnsafePath


def test_a_prefix_of_the_roots_name_is_outside(rules: Rules, tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root2").mkdir()
    (tmp_path / "root2" / "song.mp3").write_bytes(b"x")
    (tmp_path / "root" / "song.mp3").symlink_to(tmp_path / "root2" / "song.mp3")
    assert entry(rules, tmp_path / "root", tmp_path / "root" / "song.mp3") == rules_module.LINK_OUTSIDE


def test_pipes_and_folders_are_no_files(rules: Rules, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp3")
    (tmp_path / "folder.mp3").mkdir()
    assert entry(rules, tmp_path, tmp_path / "pipe.mp3") == rules_module.NOT_REGULAR
    assert entry(rules, tmp_path, tmp_path / "folder.mp3") == rules_module.NOT_REGULAR


def test_the_length_of_a_path_counts_in_bytes(tmp_path: Path) -> None:
    path = tmp_path / ("ä" * 100 + ".mp3")
    path.write_bytes(b"")
    length = len(os.fsencode(path))
    assert entry(Rules(IngestSettings(max_path_bytes=length)), tmp_path, path) is None
    assert entry(Rules(IngestSettings(max_path_bytes=length - 1)), tmp_path, path) == rules_module.PATH_TOO_LONG


def test_an_empty_file_is_not_judged_by_its_size(rules: Rules, tmp_path: Path) -> None:
    (tmp_path / "new.mp3").touch()
    assert entry(rules, tmp_path, tmp_path / "new.mp3") is None
