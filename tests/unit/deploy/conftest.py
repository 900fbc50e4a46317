"""Command lines without any installation, and none of the operator's settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from command_line import run_command

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from typer.testing import Result


@pytest.fixture
def run(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """`run("install", …)`: exit code, standard output and standard error of a command line."""
    empty: Path = tmp_path_factory.mktemp("empty")
    monkeypatch.chdir(empty)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(empty))

    def invoke(*arguments: object, **environment: str) -> Result:
        return run_command({"IRONCLAD_DATA_DIR": None, "IRONCLAD_CONFIG": None, **environment}, *arguments)

    return invoke
