"""The arguments that `process` and `submit` have in common: which files, and what to make of them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ironclad.cli.named import named
from ironclad.cli.queueing import FORMAT_HELP, INSTRUMENTAL_HELP, KARAOKE_HELP, STEMS_HELP, Format, Instrumental

Files = Annotated[list[Path], typer.Argument(parser=named, metavar="FILE", help="Files, or folders to look through.")]
Engine = Annotated[
    str | None, typer.Option("--engine", "-e", metavar="ENGINE", help="The engine; see `ironclad engines list`.")
]
Model = Annotated[str | None, typer.Option("--model", metavar="MODEL", help="Its model; see `ironclad models list`.")]
OutputFormat = Annotated[Format | None, typer.Option("--format", "-f", metavar="FORMAT", help=FORMAT_HELP)]
Stems = Annotated[str | None, typer.Option("--stems", metavar="STEM,…", help=STEMS_HELP)]
HowInstrumental = Annotated[Instrumental | None, typer.Option("--instrumental", metavar="HOW", help=INSTRUMENTAL_HELP)]
KaraokeDb = Annotated[float | None, typer.Option("--karaoke-db", metavar="DB", min=-60, max=0, help=KARAOKE_HELP)]
Force = Annotated[bool, typer.Option("--force", help="Even if it was done before or there seems to be nothing to do.")]
