from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np
import pytest

from ironclad.engines.host.api import EngineError
from ironclad.engines.host.pcm import PcmReader, PcmSinks

if TYPE_CHECKING:
    from pathlib import Path

    from ironclad.engines.host.api import Samples

MIX = np.arange(20, dtype=np.float32).reshape(2, 10) / 20


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mix.f32"
    MIX.T.astype("<f4").tofile(path)
    return path


def test_reads_any_part_as_channels_by_frames(file: Path) -> None:
    reader = PcmReader(str(file), frames=10, channels=2, rate=44100)
    np.testing.assert_array_equal(reader.read(3, 4), MIX[:, 3:7])
    np.testing.assert_array_equal(reader.read(0, 10), MIX)
    assert reader.read(10, 0).shape == (2, 0)
    assert reader.read(0, 2).flags["C_CONTIGUOUS"]
    reader.close()


@pytest.mark.parametrize(("start", "count"), [(-1, 2), (9, 2), (0, 11), (3, -1)])
def test_frames_outside_the_recording_are_an_error_of_the_caller(file: Path, start: int, count: int) -> None:
    reader = PcmReader(str(file), frames=10, channels=2, rate=44100)
    with pytest.raises(IndexError):
        reader.read(start, count)
    reader.close()


@pytest.mark.parametrize(
    ("frames", "channels", "rate", "kind"), [(11, 2, 44100, "storage"), (10, 0, 44100, "input"), (10, 2, 0, "input")]
)
def test_a_file_that_is_not_as_declared_is_refused(
    file: Path, frames: int, channels: int, rate: int, kind: str
) -> None:
    with pytest.raises(EngineError) as caught:
        PcmReader(str(file), frames=frames, channels=channels, rate=rate)
    assert caught.value.kind == kind


def test_a_file_that_shrinks_while_it_is_read_is_noticed(file: Path) -> None:
    reader = PcmReader(str(file), frames=10, channels=2, rate=44100)
    with file.open("r+b") as handle:
        handle.truncate(40)
    with pytest.raises(EngineError, match="shorter"):
        reader.read(0, 10)
    reader.close()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_samples_that_are_not_numbers_are_the_recordings_fault(tmp_path: Path, value: float) -> None:
    bad = MIX.copy()
    bad[1, 4] = value
    bad.T.astype("<f4").tofile(tmp_path / "bad.f32")
    reader = PcmReader(str(tmp_path / "bad.f32"), frames=10, channels=2, rate=44100)
    with pytest.raises(EngineError) as caught:
        reader.read(2, 5)
    assert (caught.value.kind, caught.value.code) == ("input", "E_CORRUPT_AUDIO")
    reader.close()


def both(block: Samples) -> dict[str, Samples]:
    return {"vocals": block, "rest": -block, "unasked": block[:1]}


def test_stems_are_written_in_blocks_and_get_their_names_at_the_end(tmp_path: Path) -> None:
    sinks = PcmSinks(str(tmp_path), ["vocals", "rest"], frames=10, channels=2)
    sinks.write(both(MIX[:, :6]))
    assert sinks.frames == 6
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rest.f32.part", "vocals.f32.part"]
    sinks.write(both(MIX[:, 6:]))
    reports = sinks.finish()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rest.f32", "vocals.f32"]
    data = (tmp_path / "vocals.f32").read_bytes()
    np.testing.assert_array_equal(np.frombuffer(data, "<f4").reshape(-1, 2).T, MIX)
    assert reports["vocals"].sha256 == hashlib.sha256(data).hexdigest()
    assert reports["rest"].peak == pytest.approx(MIX.max())
    assert reports["rest"].frames == 10
    sinks.discard()
    assert (tmp_path / "vocals.f32").exists()


def test_any_float_type_and_layout_is_taken(tmp_path: Path) -> None:
    sinks = PcmSinks(str(tmp_path), ["v"], frames=10, channels=2)
    sinks.write({"v": np.asfortranarray(MIX.astype(np.float64))})  # type: ignore[dict-item]  # engines will do that
    sinks.finish()
    np.testing.assert_array_equal(np.fromfile(tmp_path / "v.f32", "<f4").reshape(-1, 2).T, MIX)


NOT_FINITE = MIX.copy()
NOT_FINITE[0, 9] = np.nan
INFINITE = MIX.copy()
INFINITE[0, 0] = -np.inf


@pytest.mark.parametrize(
    ("block", "code", "message"),
    [
        ({"vocals": MIX}, "", "lacks rest"),
        ({"vocals": MIX, "rest": MIX[:, :5]}, "", "wrong shape"),
        ({"vocals": MIX, "rest": MIX[:1]}, "", "wrong shape"),
        ({"vocals": MIX[0], "rest": MIX[0]}, "", "wrong shape"),
        ({"vocals": NOT_FINITE, "rest": MIX}, "E_OUTPUT_INVALID", "not finite"),
        ({"vocals": MIX, "rest": INFINITE}, "E_OUTPUT_INVALID", "not finite"),
        ({"vocals": np.tile(MIX, 2), "rest": np.tile(MIX, 2)}, "E_OUTPUT_INVALID", "20 frames for a recording of 10"),
    ],
)
def test_a_wrong_block_is_the_engines_fault(tmp_path: Path, block: dict[str, Samples], code: str, message: str) -> None:
    sinks = PcmSinks(str(tmp_path), ["vocals", "rest"], frames=10, channels=2)
    with pytest.raises(EngineError, match=message) as caught:
        sinks.write(block)
    assert (caught.value.kind, caught.value.code) == ("engine", code)
    sinks.discard()
    assert list(tmp_path.iterdir()) == []


def test_stems_that_are_too_short_are_never_named(tmp_path: Path) -> None:
    sinks = PcmSinks(str(tmp_path), ["v"], frames=10, channels=2)
    sinks.write({"v": MIX[:, :9]})
    with pytest.raises(EngineError, match="9 of 10"):
        sinks.finish()
    sinks.discard()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_leaves_nothing_open(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        PcmSinks(str(tmp_path / "none"), ["v"], frames=10, channels=2)
