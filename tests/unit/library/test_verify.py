from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from blake3 import blake3

from ironclad.errors import BadRequest, Cancelled, CorruptAudio, NotFound
from ironclad.library.receipt import Receipt, sidecar
from ironclad.library.verify import Subset, Verdict, receipts, verify

if TYPE_CHECKING:
    from pathlib import Path

PLAIN = Receipt(
    job_uuid="j", trace_id="t", kind="instrumental", source_blake3="s", source_samples=10, source_sample_rate=10,
    blake3="", bytes=0, samples=10, sample_rate=10, channels=2, same_length=True, offset_samples=0, format="flac",
)  # fmt: skip


def publish(path: Path, content: bytes = b"audio") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    receipt = replace(PLAIN, blake3=blake3(content).hexdigest(), bytes=len(content))
    sidecar(path).write_bytes(receipt.to_bytes())
    return path


def verdicts(root: Path) -> dict[str, Verdict]:
    return {found.path.name: found.verdict for found in verify(receipts(root))}


def test_a_whole_library_is_checked(tmp_path: Path) -> None:
    publish(tmp_path / "a" / "good.flac")
    publish(tmp_path / "a" / "gone.flac").unlink()
    publish(tmp_path / "b" / "flipped.flac").write_bytes(b"audiO")
    publish(tmp_path / "b" / "longer.flac").write_bytes(b"audio and more")
    sidecar(publish(tmp_path / "b" / "broken.flac")).write_bytes(b"{")
    sidecar(publish(tmp_path / "b" / "huge.flac")).write_bytes(b" " * ((1 << 20) + 1))
    (tmp_path / "cover.jpg").write_bytes(b"not ours")
    assert verdicts(tmp_path) == {
        "good.flac": Verdict.OK, "gone.flac": Verdict.MISSING, "flipped.flac": Verdict.CHANGED,
        "longer.flac": Verdict.CHANGED, "broken.flac": Verdict.UNREADABLE, "huge.flac": Verdict.UNREADABLE,
    }  # fmt: skip


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_told(tmp_path: Path) -> None:
    publish(tmp_path / "x.flac").chmod(0)
    assert verdicts(tmp_path) == {"x.flac": Verdict.UNREADABLE}


def test_a_folder_in_place_of_a_track_is_told(tmp_path: Path) -> None:
    track = publish(tmp_path / "x.flac")
    track.unlink()
    track.mkdir()
    sidecar(track).write_bytes(replace(PLAIN, blake3="d", bytes=track.stat().st_size).to_bytes())
    assert verdicts(tmp_path) == {"x.flac": Verdict.UNREADABLE}


def test_one_track_by_its_own_name_or_its_receipts(tmp_path: Path) -> None:
    track = publish(tmp_path / "x.flac")
    publish(tmp_path / "y.flac")
    assert list(receipts(track)) == list(receipts(sidecar(track))) == [sidecar(track)]
    bare = tmp_path / "bare.flac"
    bare.write_bytes(b"x")
    (found,) = verify(receipts(bare))
    assert (found.verdict, found.detail) == (Verdict.UNREADABLE, "there is no receipt")
    with pytest.raises(NotFound):
        list(receipts(tmp_path / "nothing"))


def test_the_audio_can_be_checked_too(tmp_path: Path) -> None:
    publish(tmp_path / "x.flac")
    (short,) = verify(receipts(tmp_path), decode=lambda _track, receipt: f"9 of {receipt.samples} samples")
    assert (short.verdict, short.detail) == (Verdict.DAMAGED, "9 of 10 samples")
    (fine,) = verify(receipts(tmp_path), decode=lambda *_: "")
    assert fine.verdict.good

    def broken(_track: Path, _receipt: Receipt) -> str:
        raise CorruptAudio("frame 3")

    (bad,) = verify(receipts(tmp_path), decode=broken)
    assert bad.verdict is Verdict.UNREADABLE
    assert "frame 3" in bad.detail


def test_checking_can_be_cancelled(tmp_path: Path) -> None:
    publish(tmp_path / "x.flac")

    def check() -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        list(verify(receipts(tmp_path), check=check))


def test_seven_days_check_everything_once(tmp_path: Path) -> None:
    for number in range(60):
        publish(tmp_path / f"{number % 5}" / f"{number}.flac")
    days = [set(receipts(tmp_path, Subset(day, 7))) for day in range(1, 8)]
    assert sum(map(len, days)) == 60
    assert set().union(*days) == set(receipts(tmp_path))
    assert max(map(len, days)) < 30
    publish(tmp_path / "new.flac")
    again = [set(receipts(tmp_path, Subset(day, 7))) for day in range(1, 8)]
    assert all(old <= new for old, new in zip(days, again, strict=True)), "a new file moves no other"


def test_a_subset_is_written_with_a_stroke() -> None:
    assert Subset.parse("2/7") == Subset(2, 7)
    for text in ("0/7", "8/7", "1", "1/0", "a/b", "1/7/2", "-1/7", "\u0661/\u0667"):
        with pytest.raises(BadRequest):
            Subset.parse(text)
