from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import typer

from ironclad.cli import failure
from ironclad.errors import ConfigError, DiskFull, IllegalTransition, NotFound

if TYPE_CHECKING:
    from collections.abc import Callable


def raising(error: BaseException) -> Callable[[], object]:
    def call() -> object:
        raise error

    return call


def test_success_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    assert failure.guarded(lambda: "ignored", []) == 0
    assert capsys.readouterr() == ("", "")


def test_an_error_says_its_code_what_happened_and_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    assert failure.guarded(raising(NotFound("No job has an id like \x1b[31m.")), ["jobs", "show", "x"]) == 5
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "E_NOT_FOUND There is no such thing. No job has an id like \\x1b[31m.",
        f"What to do: {NotFound.hint}",
    ]


def test_lists_of_problems_keep_their_lines(capsys: pytest.CaptureFixture[str]) -> None:
    assert failure.guarded(raising(ConfigError("\n  - a\n  - b")), []) == 3
    assert "\n  - a\n  - b\n" in capsys.readouterr().err


def test_with_json_an_error_is_an_object_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    error = IllegalTransition("No.", job="1")
    assert failure.guarded(raising(error), ["jobs", "hold", "1", "--json"]) == 7
    out, err = capsys.readouterr()
    assert out == ""
    assert json.loads(err) == {"error": error.to_dict(), "exit_code": 7}


def test_json_after_two_dashes_is_a_file_name(capsys: pytest.CaptureFixture[str]) -> None:
    failure.guarded(raising(NotFound()), ["why", "--", "--json"])
    assert capsys.readouterr().err.startswith("E_NOT_FOUND")


def test_a_bug_is_short_and_says_how_to_report_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert failure.guarded(raising(KeyError("oops")), ["status"]) == 70
    err = capsys.readouterr().err
    assert "E_UNEXPECTED" in err
    assert "KeyError: 'oops'" in err
    assert "report" in err
    assert "Traceback" not in err


def test_a_bug_with_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert failure.guarded(raising(ValueError("oops")), ["--json"]) == 70
    data = json.loads(capsys.readouterr().err)
    assert (data["error"]["code"], data["error"]["detail"]) == ("E_UNEXPECTED", "ValueError: oops")


@pytest.mark.parametrize("option", ["-v", "--verbose"])
def test_verbose_shows_where_it_came_from(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    failure.guarded(raising(NotFound("gone")), [option, "status"])
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert "in call" in err


@pytest.mark.parametrize(
    ("error", "code"),
    [(KeyboardInterrupt(), 130), (typer.Abort(), 130), (BrokenPipeError(), 141), (typer.Exit(1), 1), (typer.Exit(), 0)],
)
def test_endings_that_need_no_words(error: BaseException, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert failure.guarded(raising(error), []) == code
    assert capsys.readouterr() == ("", "")


def test_a_pipe_that_closes_at_the_last_flush_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    class Closed:
        def flush(self) -> None:
            raise BrokenPipeError

        def fileno(self) -> int:
            raise OSError

    monkeypatch.setattr("sys.stdout", Closed())
    assert failure.guarded(lambda: None, []) == 141
    assert failure.guarded(raising(typer.Exit(1)), []) == 141


@pytest.mark.parametrize("arguments", [["config", "schema"], ["config", "show", "--json"]])
def test_a_full_disk_below_what_is_printed_is_no_bug(arguments: list[str], tmp_path: Path) -> None:
    done = _ironclad(tmp_path, *arguments, stdout=">/dev/full")
    assert done.returncode == 7
    assert DiskFull.code in done.stderr
    assert "No space left" in done.stderr
    assert "Exception ignored" not in done.stderr


def test_who_closes_standard_output_wants_to_read_nothing(tmp_path: Path) -> None:
    done = _ironclad(tmp_path, "config", "schema", stdout=">&-")
    assert (done.returncode, done.stderr) == (0, "")


def _ironclad(folder: Path, *arguments: str, stdout: str) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).with_name("ironclad")
    return subprocess.run(
        ["sh", "-c", f'exec "$@" {stdout}', "sh", str(program), "--data-dir", str(folder), *arguments],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
