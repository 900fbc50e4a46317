from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from blake3 import blake3

from ironclad.audio.pcm import PcmFile, PcmWriter
from ironclad.errors import OutputInvalid, StorageError

if TYPE_CHECKING:
    from pathlib import Path


def ramp(frames: int, channels: int = 2) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.arange(frames * channels, dtype=np.float32).reshape(frames, channels)


def written(path: Path, frames: int, pieces: int = 3) -> PcmFile:
    with PcmWriter(path, 2, 44100) as writer:
        for part in np.array_split(ramp(frames), pieces):
            writer.write(part)
        return writer.finish()


def test_what_was_written_is_read_in_blocks(tmp_path: Path) -> None:
    pcm = written(tmp_path / "x", 1000)
    assert (pcm.frames, pcm.channels, pcm.sample_rate, pcm.bytes) == (1000, 2, 44100, 8000)
    assert pcm.seconds == pytest.approx(1000 / 44100)
    pcm.verify()
    blocks = list(pcm.blocks(300))
    assert [len(block) for block in blocks] == [300, 300, 300, 100]
    assert all(block.dtype == np.float32 for block in blocks)
    assert np.array_equal(np.concatenate(blocks), ramp(1000))


def test_a_part_is_read_without_the_rest(tmp_path: Path) -> None:
    pcm = written(tmp_path / "x", 1000)
    assert np.array_equal(pcm.read(200, 700), ramp(1000)[200:700])
    assert np.array_equal(pcm.read(990, 5000), ramp(1000)[990:])
    assert pcm.read(5, 5).shape == (0, 2)


def test_the_digest_is_that_of_the_bytes(tmp_path: Path) -> None:
    with PcmWriter(tmp_path / "x", 2, 8000) as writer:
        writer.write(ramp(100).astype(np.float64))
        writer.write(ramp(0))
        pcm = writer.finish()
        assert writer.digest == pcm.digest() == blake3((tmp_path / "x").read_bytes()).hexdigest()
    assert (tmp_path / "x").read_bytes() == ramp(100).astype("<f4").tobytes()


def test_a_transposed_view_is_written_in_order(tmp_path: Path) -> None:
    with PcmWriter(tmp_path / "x", 2, 8000) as writer:
        writer.write(np.ascontiguousarray(ramp(50).T).T)
        assert np.array_equal(writer.finish().read(), ramp(50))


@pytest.mark.parametrize("shape", [(10,), (10, 3), (2, 10, 2)])
def test_a_wrong_shape_is_a_bug(tmp_path: Path, shape: tuple[int, ...]) -> None:
    with PcmWriter(tmp_path / "x", 2, 8000) as writer, pytest.raises(ValueError, match="expected"):
        writer.write(np.zeros(shape, np.float32))


def test_a_closed_writer_writes_nothing(tmp_path: Path) -> None:
    writer = PcmWriter(tmp_path / "x", 2, 8000)
    with pytest.raises(ValueError, match="not open"):
        writer.write(ramp(1))
    with pytest.raises(ValueError, match="not open"):
        writer.finish()


def test_a_file_of_another_size_is_invalid(tmp_path: Path) -> None:
    pcm = written(tmp_path / "x", 100)
    longer = PcmFile(pcm.path, 101, 2, 44100)
    with pytest.raises(OutputInvalid, match="800 bytes"):
        longer.verify()
    with pytest.raises(OutputInvalid, match="ends before"):
        list(longer.blocks())


def test_what_is_wrong_with_our_own_file_may_be_tried_again(tmp_path: Path) -> None:
    """It is the storage's fault: no source is missing, and none is unreadable."""
    with pytest.raises(StorageError) as caught:
        PcmFile(tmp_path / "none", 1, 2, 8000).verify()
    assert caught.value.retryable
    with pytest.raises(StorageError), PcmWriter(tmp_path / "no" / "x", 2, 44100):
        pass


def test_it_survives_json(tmp_path: Path) -> None:
    pcm = written(tmp_path / "x", 10)
    assert PcmFile.from_dict(pcm.to_dict()) == pcm
    assert pcm.to_dict()["path"] == str(tmp_path / "x")
