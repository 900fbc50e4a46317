"""`ironclad pause` and `ironclad resume`."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from ironclad.cli import output
from ironclad.cli.installation import opened
from ironclad.ops import operating

pause_app = typer.Typer(rich_markup_mode=None, add_completion=False)
resume_app = typer.Typer(rich_markup_mode=None, add_completion=False)

JSON: Final = {
    "pause": {"pool": "The pool, or null for the whole pipeline.", "paused": "true"},
    "resume": {"pool": "The pool, or null for the whole pipeline.", "paused": "false"},
}

Pool = Annotated[str | None, typer.Option("--pool", metavar="POOL", help="This pool only, not the whole pipeline.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@pause_app.command()
def pause(context: typer.Context, *, pool: Pool = None, as_json: AsJson = False) -> None:
    """Let nothing new start; what runs is finished."""
    _set(context, pool, paused=True, as_json=as_json)


@resume_app.command()
def resume(context: typer.Context, *, pool: Pool = None, as_json: AsJson = False) -> None:
    """Let work start again."""
    _set(context, pool, paused=False, as_json=as_json)


def _set(context: typer.Context, pool: str | None, *, paused: bool, as_json: bool) -> None:
    with opened(context) as installation, installation.database.session() as session:
        operating.pause(session, installation.settings, pool, paused=paused, actor=installation.actor)
    if as_json:
        output.print_json({"pool": pool, "paused": paused})
    else:
        what = "The pipeline" if pool is None else f"Pool {pool}"
        output.say(f"{what} is paused; what runs is finished." if paused else f"{what} is open.")
