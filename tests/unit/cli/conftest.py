"""Command lines in this process, through the same door as the console script."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest
import structlog
from typer.testing import CliRunner

from ironclad.cli.main import app

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from typer.testing import Result


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    """A command sets up logging for its own (here: captured) streams."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    for handler in [one for one in root.handlers if one not in handlers]:
        root.removeHandler(handler)
    for handler in [one for one in handlers if one not in root.handlers]:
        root.addHandler(handler)
    root.setLevel(level)
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """`run("jobs", "list", IRONCLAD_X="…")`: exit code, standard output and standard error of a command line."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))

    def invoke(*arguments: object, **environment: str) -> Result:
        environ = {"IRONCLAD_DATA_DIR": str(tmp_path / "data"), **environment}
        return CliRunner().invoke(app, [str(one) for one in arguments], env=environ)

    return invoke
