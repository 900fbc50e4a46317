"""`ironclad tui`: the cockpit itself is a front, loaded by name when this command is called."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Final

import typer

from ironclad.cli import options
from ironclad.cli.named import named
from ironclad.errors import BadRequest

app = typer.Typer(rich_markup_mode=None, add_completion=False)

JSON: Final[dict[str, dict[str, str]]] = {}
"""It has no --json: `ironclad top --json` tells the same to programs."""
_BROWSER: Final = "TEXTUAL_DRIVER"  # set by textual-serve, which has a browser instead of a terminal


@app.command()
def tui(
    context: typer.Context,
    *,
    read_only: Annotated[bool, typer.Option("--read-only", help="Look, but change nothing.")] = False,
    theme: Annotated[
        str, typer.Option("--theme", metavar="NAME", help="ironclad-dark, -light, -contrast or -mono.")
    ] = "",
    replay: Annotated[
        Path | None,
        typer.Option("--replay", parser=named, metavar="FILE", help="Look at a recording made with --record."),
    ] = None,
    at: Annotated[
        str | None, typer.Option("--at", metavar="TIME", help="Look at how things were: 2h, or 2026-01-31T03:12.")
    ] = None,
    record: Annotated[
        Path | None,
        typer.Option("--record", parser=named, metavar="FILE", help="Write the history of jobs to a file, and exit."),
    ] = None,
    serve: Annotated[
        str | None, typer.Option("--serve", metavar="HOST:PORT", help="Show it in a browser; loopback without a token.")
    ] = None,
    token: Annotated[
        str | None,
        typer.Option(
            "--token",
            metavar="TOKEN",
            envvar="IRONCLAD_TUI_TOKEN",
            help="Whoever opens the page must know it.",
            show_envvar=False,
        ),
    ] = None,
) -> None:
    """The operator's cockpit in this terminal.

    Overview, jobs, failures, workers, health and more, by keyboard.
    """
    from ironclad.ops import fronts  # noqa: PLC0415 - only what is called is imported

    if sum(one is not None for one in (replay, at, record, serve)) > 1:
        raise BadRequest("--replay, --at, --record and --serve exclude each other.")
    terminal = (sys.stdin.isatty() and sys.stdout.isatty()) or _BROWSER in os.environ
    if serve is None and record is None and not terminal:
        raise BadRequest("The cockpit needs a terminal; `ironclad top` prints the same as text or --json.")
    start = fronts.load("tui")
    start(
        options.of(context), read_only=read_only, theme=theme, replay=replay, at=at, record=record, serve=serve,
        token=token,
    )  # fmt: skip
