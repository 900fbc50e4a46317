"""Command lines in this process, through the same door as the console script."""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING

import structlog
from typer.testing import CliRunner

from ironclad.cli.main import app

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from typer.testing import Result


@contextlib.contextmanager
def logging_kept() -> Iterator[None]:
    """A command sets up logging for its own (here: captured) streams; put back what was there."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
        structlog.reset_defaults()
        structlog.contextvars.clear_contextvars()


def run_command(environment: Mapping[str, str | None], *arguments: object) -> Result:
    """Exit code, standard output and standard error of a command line."""
    with logging_kept():
        return CliRunner().invoke(app, [str(one) for one in arguments], env=dict(environment))
