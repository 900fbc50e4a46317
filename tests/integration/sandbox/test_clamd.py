from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
import scanner

from ironclad.errors import SourceMissing
from ironclad.sandbox import clamd
from ironclad.sandbox.clamd import Clamd, Scan, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SMALL = 1 << 20
needs_clamd = pytest.mark.skipif(scanner.program() is None, reason="ClamAV's clamd is not installed")


@pytest.fixture(scope="module")
def real() -> Iterator[Path]:
    with scanner.running(StreamMaxLength="3M", MaxFileSize="2M", MaxScanSize="2M") as path:
        yield path


def sized(folder: Path, size: int, start: bytes = b"") -> Path:
    file = folder / "song.mp3"
    file.write_bytes(start)
    with file.open("r+b") as stream:
        stream.truncate(size)
    return file


@needs_clamd
def test_the_real_scanner_tells_clean_from_infected(real: Path, tmp_path: Path) -> None:
    daemon = Clamd(real, max_bytes=SMALL)
    assert daemon.version().startswith("ClamAV")
    assert daemon.scan(sized(tmp_path, 1000, b"RIFF")) == Scan(Verdict.CLEAN)
    found = daemon.scan(sized(tmp_path, 700_000, scanner.EICAR))
    assert found.verdict is Verdict.INFECTED
    assert "Eicar-Test" in found.detail
    assert daemon.self_test() == ""


@needs_clamd
def test_nothing_is_believed_beyond_the_limit(real: Path, tmp_path: Path) -> None:
    infected = sized(tmp_path, 2_500_000, scanner.EICAR)
    assert Clamd(real, max_bytes=SMALL).scan(infected).verdict is Verdict.BEYOND
    believing = Clamd(real, max_bytes=3 << 20)
    assert believing.scan(infected) == Scan(Verdict.CLEAN)  # the daemon's own false answer
    assert "says OK to a test file of 3145728 bytes" in believing.self_test()


@needs_clamd
def test_a_stream_beyond_the_daemons_own_limit_is_told_as_such(real: Path, tmp_path: Path) -> None:
    daemon = Clamd(real, max_bytes=64 << 20)
    found = daemon.scan(sized(tmp_path, 40 << 20))
    assert found == Scan(Verdict.BEYOND, "it is larger than the scanner's StreamMaxLength")
    assert "was not scanned" in daemon.self_test()


@needs_clamd
def test_a_limit_that_is_told_like_a_virus_is_none(tmp_path: Path) -> None:
    with scanner.running(MaxFileSize="1M", AlertExceedsMax="yes") as path:
        found = Clamd(path, max_bytes=4 << 20).scan(sized(tmp_path, 3 << 20))
    assert found.verdict is Verdict.BEYOND
    assert found.detail.startswith("Heuristics.Limits.Exceeded")


@pytest.mark.parametrize(
    ("reply", "verdict"),
    [
        (b"stream: OK\0", Verdict.CLEAN),
        (b"stream: Win.Test.EICAR_HDB-1 FOUND\0", Verdict.INFECTED),
        (b"stream: OK", Verdict.CLEAN),
        (b"", Verdict.UNSCANNED),
        (b"OK\0", Verdict.UNSCANNED),
        (b"stream: OK not quite\0", Verdict.UNSCANNED),
        (b"stream: Can't allocate memory ERROR\0", Verdict.UNSCANNED),
        (b"INSTREAM size limit exceeded. ERROR\0", Verdict.BEYOND),
        (b"\xff\xfe" * 100_000, Verdict.UNSCANNED),
    ],
)
def test_only_the_exact_words_count(tmp_path: Path, reply: bytes, verdict: Verdict) -> None:
    with scanner.saying(reply) as path:
        found = Clamd(path).scan(sized(tmp_path, 300_000))
    assert found.verdict is verdict
    assert (verdict is Verdict.CLEAN) == (found.detail == "")


def test_an_answer_before_the_end_counts_although_the_pipe_breaks(tmp_path: Path) -> None:
    with scanner.saying(b"stream: Early.Sign FOUND\0", reads=1000) as path:
        found = Clamd(path).scan(sized(tmp_path, 30 << 20))
    # Depending on when the kernel tells us, the answer is there, or the connection was cut: never "clean".
    assert found.verdict in {Verdict.INFECTED, Verdict.UNSCANNED}


def test_a_scanner_that_hangs_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A clock that stands: else a busy machine may have used up the time before the file was sent.
    monkeypatch.setattr(clamd, "time", SimpleNamespace(monotonic=lambda: 0.0))
    with scanner.saying(b"stream: OK\0", hangs=True) as path:
        found = Clamd(path, seconds=0.2).scan(sized(tmp_path, 1000))
    assert found == Scan(Verdict.UNSCANNED, "the scanner did not answer within 0.2 s")


def test_no_scanner_is_no_answer(tmp_path: Path) -> None:
    daemon = Clamd(tmp_path / "none")
    found = daemon.scan(sized(tmp_path, 1000))
    assert found.verdict is Verdict.UNSCANNED
    assert "does not answer" in found.detail
    with pytest.raises(FileNotFoundError):
        daemon.version()


def test_a_scan_can_be_ended(tmp_path: Path) -> None:
    class Ended(Exception):
        pass

    calls = 0

    def check() -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise Ended

    with scanner.saying(b"stream: OK\0") as path, pytest.raises(Ended):
        Clamd(path).scan(sized(tmp_path, 4 << 20), check=check)


def test_a_missing_file_is_the_files_error(tmp_path: Path) -> None:
    with pytest.raises(SourceMissing):
        Clamd(tmp_path / "none").scan(tmp_path / "gone.mp3")
