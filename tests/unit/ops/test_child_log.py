from __future__ import annotations

import json
import socket
from typing import TYPE_CHECKING

from ironclad.ops.logfile import ChildLog

if TYPE_CHECKING:
    from pathlib import Path


def test_lines_are_kept_as_json_whatever_they_are(tmp_path: Path) -> None:
    path = tmp_path / "watch.jsonl"
    log = ChildLog(path, "watch")
    log.write(b'{"event": "ours"}\nTraceback (most')
    log.write(b" recent call last):\n\n\xff\xfe\nlast without newline")
    log.close()
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert [line["event"] for line in lines] == [
        "ours", "Traceback (most recent call last):", "\ufffd\ufffd", "last without newline",
    ]  # fmt: skip
    assert (lines[1]["service"], lines[1]["host"]) == ("watch", socket.gethostname())
    assert lines[1]["at"].endswith("Z")


def test_the_tail_has_the_last_lines(tmp_path: Path) -> None:
    log = ChildLog(tmp_path / "x.jsonl", "x")
    log.write(b"".join(b"%d\n" % number for number in range(100)))
    assert (log.tail[0], log.tail[-1], len(log.tail)) == ("60", "99", 40)
    log.clear_tail()
    assert log.tail == ()
    log.close()


def test_files_are_rotated_by_size_and_few_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    log = ChildLog(path, "x", max_bytes=100, keep=2)
    for number in range(10):
        log.write(json.dumps({"event": "e" * 50, "n": number}).encode() + b"\n")
    log.close()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["x.jsonl", "x.jsonl.1", "x.jsonl.2"]
    kept = [json.loads(path.with_name(name).read_text())["n"] for name in ("x.jsonl.2", "x.jsonl.1", "x.jsonl")]
    assert kept == [7, 8, 9]


def test_it_goes_on_in_the_file_that_is_there(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    for text in (b'{"n": 1}\n', b'{"n": 2}\n'):
        log = ChildLog(path, "x")
        log.write(text)
        log.close()
    assert path.read_bytes() == b'{"n": 1}\n{"n": 2}\n'


def test_an_endless_line_does_not_fill_the_memory(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    log = ChildLog(path, "x")
    for _ in range(8):
        log.write(b"x" * 32_768)
    log.close()
    assert sum(len(json.loads(line)["event"]) for line in path.read_text().splitlines()) == 8 * 32_768
    assert len(path.read_text().splitlines()) > 1


def test_a_log_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    log = ChildLog(tmp_path / "missing" / "x.jsonl", "x")
    log.write(b"lost\n")
    assert log.tail == ("lost",)
    (tmp_path / "missing").mkdir()
    log.write(b"found\n")
    log.close()
    assert "found" in (tmp_path / "missing" / "x.jsonl").read_text()
