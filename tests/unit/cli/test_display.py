from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

from rich.console import Console
from rich.progress import Progress

from ironclad.cli import display, results
from ironclad.cli.results import Output, Result
from ironclad.errors import NotAudio

if TYPE_CHECKING:
    import pytest

JOB = UUID(int=5)
GOOD = Result(
    "/in/a.mp3",
    JOB,
    "succeeded",
    "Artist - [b]Title\x1b",
    (Output("instrumental", "/out/a\n.mp3", 5, "d"),),
    None,
    4.25,
)
BAD = Result("/in/b.mp3", UUID(int=6), "failed", "b", error=NotAudio("10 bytes").to_dict(), seconds=1.0)
SKIPPED = Result("/in/c.mp3", UUID(int=7), "skipped", "c", error={"code": "E_DUPLICATE", "what": "Same.", "detail": ""})


def words(result: Result) -> list[str]:
    return [line.plain for line in display.lines_of(result)]


def test_a_success_shows_where_the_results_are() -> None:
    assert words(GOOD) == ["succeeded  Artist - [b]Title\\x1b  (4.2 s)", "  /out/a\\n.mp3"]


def test_a_failure_shows_why_which_file_and_what_to_do() -> None:
    assert words(BAD) == ["failed  b", "  E_NOT_AUDIO: The file holds no audio that Ironclad can read. 10 bytes",
                          "  /in/b.mp3", f"  {NotAudio.hint}"]  # fmt: skip


def test_a_skipped_file_says_why() -> None:
    assert words(SKIPPED) == ["skipped  c", "  E_DUPLICATE: Same."]


def test_the_summary_counts() -> None:
    refused = results.refused(Path("/in/\x1bd.mp3"), NotAudio())
    data = results.summary([GOOD, BAD, SKIPPED, refused])
    assert (data["succeeded"], data["skipped"], data["failed"]) == (1, 1, 2)
    assert set(data) == set(results.JSON)
    assert data["jobs"][3]["state"] == "refused"
    assert data["jobs"][3]["job_uuid"] is None
    assert data["jobs"][3]["file"] == "/in/\\x1bd.mp3"
    assert data["jobs"][0]["outputs"] == [{"kind": "instrumental", "path": "/out/a\n.mp3", "size": 5, "blake3": "d"}]
    assert display.tally(data) == "4 files: 1 succeeded, 1 skipped, 2 failed."


def test_off_a_terminal_finished_files_are_lines_and_json_is_alone(capsys: pytest.CaptureFixture[str]) -> None:
    with display.watching(2, as_json=False) as shown:
        shown.stage(str(JOB), "t", "validate")
        shown.progress(str(JOB), 0.5)
        shown.finished(GOOD)
    assert capsys.readouterr().out.splitlines()[0].startswith("succeeded  Artist")
    with display.watching(2, as_json=True) as shown:
        shown.finished(GOOD)
    assert capsys.readouterr() == ("", "")


def test_bars_follow_stages_and_give_way_to_results() -> None:
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=120, markup=False)
    with Progress("{task.description}", console=console, auto_refresh=False) as progress:
        bars = display.Bars(progress, 2, silent=False)
        bars.progress("unknown", 0.3)
        bars.stage(str(JOB), "x" * 60, "separate")
        bars.progress(str(JOB), 0.4)
        task = progress.tasks[1]
        assert task.description == f"{'x' * 39}…  5/7 separate"
        assert task.completed == 0.4
        bars.stage(str(JOB), "t", "recombine")
        assert task.completed == 0.0
        bars.finished(GOOD)
        assert [task.description for task in progress.tasks] == ["files"]
        assert progress.tasks[0].completed == 1
        bars.finished(results.refused(Path("/d"), NotAudio()))
        assert progress.tasks[0].completed == 2
    assert "Artist - [b]Title\\x1b" in file.getvalue()


def test_copying_is_counted_on_a_terminal_only(capsys: pytest.CaptureFixture[str]) -> None:
    with display.counting("Copying", [1, 2, 3]) as items:
        assert list(items) == [1, 2, 3]
    assert capsys.readouterr() == ("", "")
