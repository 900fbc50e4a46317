"""The installed program in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import ironclad

PROGRAM = str(Path(sys.executable).with_name("ironclad"))


def start(*arguments: str, environ: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*arguments], capture_output=True, text=True, check=False, timeout=60, env={**os.environ, **environ}
    )


@pytest.mark.parametrize("program", [[PROGRAM], [sys.executable, "-m", "ironclad.cli.main"]])
def test_it_starts(program: list[str]) -> None:
    done = start(*program, "--version", environ={})
    assert (done.returncode, done.stdout, done.stderr) == (0, f"ironclad {ironclad.__version__}\n", "")


def test_a_reader_that_goes_away_is_no_error(tmp_path: Path) -> None:
    for command in ("config show", "config show --json", "config schema"):
        done = start(
            "bash", "-c", f"'{PROGRAM}' {command} | true; echo ${{PIPESTATUS[0]}}",
            environ={"IRONCLAD_DATA_DIR": str(tmp_path)},
        )  # fmt: skip
        assert done.stderr == ""
        assert done.stdout.strip() in {"141", "0"}  # 0 if all fitted into the pipe before `true` ended


def test_a_large_output_to_a_closed_pipe_ends_quietly(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    process = subprocess.run(
        [PROGRAM, "config", "show"], stdout=writer, stderr=subprocess.PIPE, text=True, check=False, timeout=60,
        env={**os.environ, "IRONCLAD_DATA_DIR": str(tmp_path)},
    )  # fmt: skip
    os.close(writer)
    assert (process.returncode, process.stderr) == (141, "")


def test_output_survives_a_terminal_without_utf_8(tmp_path: Path) -> None:
    environ = {"IRONCLAD_DATA_DIR": str(tmp_path), "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"}
    done = start(PROGRAM, "engines", "show", "center", environ=environ)
    assert done.returncode in {0, 70}
    assert start(PROGRAM, "config", "show", "--json", environ=environ).returncode == 0


def test_options_before_the_command_reach_the_services_that_it_starts(
    environment: dict[str, str], tmp_path: Path
) -> None:
    done = start(PROGRAM, "--data-dir", str(tmp_path / "else"), "run", "watchdog", environ=environment)
    assert done.returncode == 78
    assert not (tmp_path / "data").exists()
    assert "no service watchdog" in done.stdout


def test_results_are_data_and_remarks_are_not(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "a.mp3").write_bytes(b"x")
    done = start(PROGRAM, "-v", "submit", str(tmp_path / "a.mp3"), "--json", environ=environment)
    assert json.loads(done.stdout)["queued"] == 1
    assert "ironclad up" in done.stderr
