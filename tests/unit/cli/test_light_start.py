"""`ironclad --help` stays quick because it imports next to nothing."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

HEAVY = (
    "prefect", "fastapi", "uvicorn", "textual", "torch", "sqlalchemy", "sqlmodel", "pydantic", "pydantic_settings",
    "numpy", "av", "soundfile", "mutagen", "psycopg", "structlog", "httpx", "rich.markdown",
    "ironclad_flows", "ironclad_tui", "ironclad.config",
)  # fmt: skip
PROGRAM = """
import sys
from ironclad.cli.main import main
sys.argv[1:] = {arguments}
try:
    main()
except SystemExit as end:
    assert end.code == 0, end.code
print([name for name in {heavy} if name in sys.modules], file=sys.stderr)
"""


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], ["--version"], ["--show-completion", "bash"]])
def test_nothing_heavy_is_imported(arguments: list[str]) -> None:
    # Typer itself needs pydantic for the values of options, but not for help.
    heavy = HEAVY if arguments[0] in {"--help", "-h"} else [name for name in HEAVY if name != "pydantic"]
    program = PROGRAM.format(arguments=arguments, heavy=heavy)
    # The shell is the one that is named, not one that happens to have started the tests.
    environ = {**os.environ, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60, env=environ
    )
    assert done.stdout
    assert done.stderr.strip() == "[]"


@pytest.mark.parametrize("command", ["up", "run", "status", "process", "jobs"])
def test_no_command_imports_the_fronts_or_what_only_engines_need(command: str) -> None:
    heavy = ("prefect", "textual", "torch", "ironclad_flows", "ironclad_tui")
    program = PROGRAM.format(arguments=[command, "--help"], heavy=heavy)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stderr.strip() == "[]"


def test_looking_at_jobs_does_without_what_their_stages_need() -> None:
    program = PROGRAM.format(arguments=["jobs", "--help"], heavy=("numpy", "av", "ironclad.stages.organize"))
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stderr.strip() == "[]"


def test_the_supervisor_does_without_the_libraries_of_its_services() -> None:
    heavy = ("prefect", "fastapi", "textual", "torch", "sqlalchemy", "sqlmodel", "numpy", "av")
    program = PROGRAM.format(arguments=["up", "--help"], heavy=heavy)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stderr.strip() == "[]"
