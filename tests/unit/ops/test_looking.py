"""Looking from beside: logs, folders, services that do not answer."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from ironclad.layout import Layout
from ironclad.ops import directory, looking
from ironclad.ops.endpoint import Endpoint, Reply

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_the_end_of_a_log_whatever_is_in_it(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    assert looking.tail(path) == ()
    lines = [json.dumps({"event": f"e{i}", "level": "info", "at": f"{i:05}", "n": i}) for i in range(9000)]
    path.write_bytes("\n".join(lines).encode() + b"\nTraceback\xff\n[1]\n\n")
    found = looking.tail(path, 5)
    assert [line.event for line in found] == ["e8997", "e8998", "e8999", "Traceback\ufffd", "[1]"]
    assert found[0].rest == {"n": 8997}
    assert found[3].level == "output"
    assert len(looking.tail(path, 100_000)) < 9000  # only the end is read


def test_logs_are_merged_by_time_and_narrowed(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    layout.logs.mkdir()
    for service, at in (("watch", "2"), ("dispatch", "1")):
        lines = [{"event": service, "level": level, "at": at, "job_uuid": level} for level in ("info", "error")]
        (layout.logs / f"{service}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert [line.event for line in looking.log(layout)] == ["dispatch", "dispatch", "watch", "watch"]
    assert [line.level for line in looking.log(layout, level="warning")] == ["error", "error"]
    assert {line.event for line in looking.log(layout, service="watch")} == {"watch"}
    assert {line.level for line in looking.log(layout, job="info")} == {"info"}
    assert len(looking.log(layout, lines=1)) == 1
    assert looking.log_services(layout) == ("dispatch", "watch")


def test_folders_are_measured_up_to_a_limit(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    (layout.output / "a").mkdir(parents=True)
    for i in range(3):
        (layout.output / "a" / str(i)).write_bytes(b"xx")
    found = {folder.name: folder for folder in looking.folders(layout)}
    assert (found["output"].files, found["output"].size, found["output"].complete) == (3, 6, True)
    assert found["archive"].files == 0
    cut = {folder.name: folder for folder in looking.folders(layout, limit=2)}
    assert (cut["output"].files, cut["output"].complete) == (2, False)


def test_job_folders_are_listed_once(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    for folder in (layout.work / "b", layout.archive / "a", layout.archive / "b"):
        folder.mkdir(parents=True)
    (layout.work / "file").write_text("x")
    assert looking.job_folders(layout) == ("a", "b")
    assert looking.job_folders(Layout(tmp_path / "nothing")) == ()


def test_the_disk_of_a_folder_that_is_not_there(tmp_path: Path) -> None:
    assert looking.disk(tmp_path, 7).total > 0
    assert looking.disk(tmp_path / "missing", 7) == looking.DiskView(str(tmp_path / "missing"), 0, 0, 7)


def answer(data: object) -> Reply:
    return Reply(200, json.dumps(data).encode())


def test_services_are_asked_and_silence_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looking, "_SECONDS", 60.0)  # who is not there says so at once, and who is may be slow here
    component = {"name": "database", "status": "degraded", "detail": "slow", "remedy": "wait", "since": 5.0}
    replies = {"good": {"components": [component]}, "bare": {"components": [], "status": "ok"}, "odd": {"x": 1}}
    endpoints = []
    try:
        for name, data in replies.items():
            endpoint = Endpoint("127.0.0.1", 0, {"/health": lambda data=data: answer(data)})  # type: ignore[misc]  # bound by default
            endpoints.append(endpoint)
            directory.announce(tmp_path, name, "127.0.0.1", endpoint.port)
        gone = {"name": "gone", "pid": 999_999_999, "identity": "x", "host": "127.0.0.1", "port": 1, "supervisor": None}
        (tmp_path / "gone.json").write_text(json.dumps(gone))
        found = {part.service: part for part in looking.health(tmp_path)}
    finally:
        for endpoint in endpoints:
            endpoint.close()
    assert found["good"] == looking.ComponentHealth("good", "database", "degraded", "slow", "wait", 5.0)
    assert (found["bare"].component, found["bare"].status) == ("service", "ok")
    assert (found["odd"].status, found["odd"].component) == ("failed", "endpoint")
    assert (found["gone"].status, found["gone"].component) == ("failed", "process")
    silent = {part.service: part for part in looking.health(tmp_path)}
    assert silent["good"].status == "failed"
    assert "does not answer" in silent["good"].detail
