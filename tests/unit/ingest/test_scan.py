from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ironclad.config import IngestSettings
from ironclad.ingest import rules as rules_module
from ironclad.ingest.rules import Rules
from ironclad.ingest.scan import Listing, scan

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def rules() -> Rules:
    return Rules(IngestSettings())


def make(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def test_a_scan_lists_what_is_taken_with_its_status(tmp_path: Path, rules: Rules) -> None:
    make(tmp_path, "ana/Album/1.mp3", "ana/Album/cover.jpg", "ana/.hidden/2.mp3", "3.flac", "archive/j/4.mp3")
    (tmp_path / "ana" / "deep" / "deeper").mkdir(parents=True)
    found = scan(tmp_path, rules, frozenset({"archive"}))
    assert set(found.files) == {"ana/Album/1.mp3", "3.flac"}
    assert found.files["3.flac"].st_size == 1
    assert not found.empty
    assert found.unreadable == []
    # root, ana, Album, .hidden, deep, deeper, archive, j: an event source watches all of them
    assert found.folders == 8


def test_a_scan_of_one_folder(tmp_path: Path, rules: Rules) -> None:
    make(tmp_path, "ana/Album/1.mp3", "ana/2.mp3", "3.mp3")
    assert set(scan(tmp_path, rules, frozenset(), "ana").files) == {"ana/Album/1.mp3", "ana/2.mp3"}


def test_links_are_not_entered_and_those_that_lead_out_are_refused(tmp_path: Path, rules: Rules) -> None:
    root = tmp_path / "root"
    make(root, "a/1.mp3")
    make(tmp_path, "out/2.mp3")
    (root / "out").symlink_to(tmp_path / "out")
    (root / "loop").symlink_to(root)
    (root / "in.mp3").symlink_to(root / "a" / "1.mp3")
    (root / "out.mp3").symlink_to(tmp_path / "out" / "2.mp3")
    found = scan(root, rules, frozenset())
    assert set(found.files) == {"a/1.mp3"}
    assert {path: rule for path, (_status, rule) in found.refused.items()} == {"out.mp3": rules_module.LINK_OUTSIDE}
    assert found.folders == 2


def test_an_empty_root_and_a_missing_one_are_not_the_same(tmp_path: Path, rules: Rules) -> None:
    assert scan(tmp_path, rules, frozenset()).empty
    missing = scan(tmp_path / "none", rules, frozenset())
    assert missing.unreadable == [""]
    assert missing.hides("anything.mp3")


def test_what_an_unreadable_folder_hides_is_not_known() -> None:
    listing = Listing(unreadable=["ana/private"])
    assert listing.hides("ana/private/x.mp3")
    assert not listing.hides("ana/private2/x.mp3")
    assert not listing.hides("ana/x.mp3")


def test_names_that_no_terminal_shows(tmp_path: Path, rules: Rules) -> None:
    names = ["new\nline.mp3", "✨🎵.flac", "x" * 240 + ".mp3", "\udcff\udcfe.ogg", "-rf.mp3", " .mp3"]
    make(tmp_path, *names)
    assert set(scan(tmp_path, rules, frozenset()).files) == set(names)
