from __future__ import annotations

import json
from typing import TYPE_CHECKING
from uuid import UUID

import pytest

from ironclad.db.tables import Job
from ironclad.stages import markers

if TYPE_CHECKING:
    from pathlib import Path

INPUTS = markers.digest_of({"stage": "stage", "source": "abc"})


def job(attempt: int = 1) -> Job:
    return Job(job_uuid=UUID(int=7), user_id="ana", trace_id="0" * 31 + "1", attempt=attempt)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "stage"
    (folder / "sub").mkdir(parents=True)
    (folder / "mixture.f32").write_bytes(b"samples")
    (folder / "sub" / "cover.png").write_bytes(b"picture")
    return folder


def test_a_marker_describes_every_file_and_who_made_it(folder: Path) -> None:
    markers.write(folder, job(), "stage", INPUTS, {"frames": 3})
    content = json.loads((folder / markers.NAME).read_text())
    assert set(content["outputs"]) == {"mixture.f32", "sub/cover.png"}
    assert content["outputs"]["mixture.f32"]["size"] == 7
    assert (content["job_uuid"], content["user_id"], content["attempt"]) == (str(UUID(int=7)), "ana", 1)
    assert content["schema_version"] == 1


def test_a_finished_stage_is_reused_for_the_same_inputs(folder: Path) -> None:
    written = markers.write(folder, job(), "stage", INPUTS, {"frames": 3})
    found = markers.reusable(folder, INPUTS)
    assert found is not None
    assert found.data == {"frames": 3}
    assert found.digest == written.digest


def test_other_inputs_make_a_stage_run_again(folder: Path) -> None:
    markers.write(folder, job(), "stage", INPUTS, {})
    assert markers.reusable(folder, markers.digest_of("other")) is None


@pytest.mark.parametrize("damage", ["changed", "missing", "added", "truncated"])
def test_a_folder_that_is_not_as_its_marker_says_is_not_reused(folder: Path, damage: str) -> None:
    markers.write(folder, job(), "stage", INPUTS, {})
    file = folder / "mixture.f32"
    match damage:
        case "changed":
            file.write_bytes(b"sAmples")
        case "missing":
            file.unlink()
        case "added":
            (folder / "more").write_bytes(b"")
        case _:
            file.write_bytes(b"sampl")
    assert markers.reusable(folder, INPUTS) is None


@pytest.mark.parametrize("content", ["", "{", "[]", '{"schema_version": 99}', "\xff"])
def test_a_marker_that_makes_no_sense_counts_as_none(folder: Path, content: str) -> None:
    (folder / markers.NAME).write_text(content, encoding="latin-1")
    assert markers.read(folder) is None
    assert markers.reusable(folder, INPUTS) is None


def test_a_replay_does_not_accept_older_attempts(folder: Path) -> None:
    markers.write(folder, job(attempt=2), "stage", INPUTS, {})
    assert markers.reusable(folder, INPUTS, since_attempt=3) is None
    assert markers.reusable(folder, INPUTS, since_attempt=2) is not None


def test_digests_do_not_depend_on_the_order_of_keys_but_on_every_value() -> None:
    assert markers.digest_of({"a": 1, "b": [2]}) == markers.digest_of({"b": [2], "a": 1})
    assert markers.digest_of({"a": 1}) != markers.digest_of({"a": 2})


def test_data_reads_back_as_it_was_returned(folder: Path) -> None:
    marker = markers.write(folder, job(), "stage", INPUTS, {"pair": (1, 2)})
    read = markers.read(folder)
    assert read is not None
    assert marker.data == read.data == {"pair": [1, 2]}
    assert marker.digest == read.digest
