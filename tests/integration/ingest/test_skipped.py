from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from ironclad.ingest import claim, skipped

if TYPE_CHECKING:
    Bench = Any  # conftest's


def drop_duplicates(bench: Bench, count: int) -> None:
    for number in range(count + 1):
        claim.take(bench.database, bench.settings, bench.new(bench.drop(f"ana/{number}.mp3", b"same")))


def test_nothing_skipped_is_an_empty_list(bench: Bench) -> None:
    skipped.write(bench.database, bench.settings.layout)
    assert json.loads(bench.settings.layout.skipped.read_text()) == {"skipped": []}


def test_duplicates_are_listed_newest_first_with_the_job_they_repeat(bench: Bench) -> None:
    drop_duplicates(bench, 3)
    skipped.write(bench.database, bench.settings.layout)
    entries = json.loads(bench.settings.layout.skipped.read_text())["skipped"]
    original = bench.jobs("queued")[0]
    assert [entry["relative_path"] for entry in entries] == ["3.mp3", "2.mp3", "1.mp3"]
    assert {entry["duplicate_of"] for entry in entries} == {str(original.job_uuid)}
    assert entries[0]["code"] == "E_DUPLICATE"
    assert str(original.job_uuid) in entries[0]["reason"]


def test_the_list_is_bounded(bench: Bench) -> None:
    drop_duplicates(bench, 4)
    assert len(skipped.entries(bench.database, 2)) == 2


def test_an_unchanged_list_is_not_written_again_and_a_broken_one_is(bench: Bench) -> None:
    drop_duplicates(bench, 1)
    path = bench.settings.layout.skipped
    skipped.write(bench.database, bench.settings.layout)
    inode = path.stat().st_ino
    skipped.write(bench.database, bench.settings.layout)
    assert path.stat().st_ino == inode
    path.write_text("{half")
    skipped.write(bench.database, bench.settings.layout)
    assert len(json.loads(path.read_text())["skipped"]) == 1
