"""Command lines without any installation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from command_line import run_command

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from typer.testing import Result


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """`run("jobs", "list", IRONCLAD_X="…")`: exit code, standard output and standard error of a command line."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))

    def invoke(*arguments: object, **environment: str) -> Result:
        return run_command({"IRONCLAD_DATA_DIR": str(tmp_path / "data"), **environment}, *arguments)

    return invoke
