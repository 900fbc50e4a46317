"""Files and folders named on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    import os


def named(text: str | os.PathLike[str]) -> Path:
    """The path; refuses an empty name, which Python takes for the current folder: it is a variable that is not set."""
    if not text:
        raise typer.BadParameter("an empty name names nothing; to mean the current folder, write a dot.")
    return Path(text)
