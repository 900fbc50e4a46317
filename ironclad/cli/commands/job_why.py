"""`ironclad jobs why` and `ironclad jobs bundle`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

from ironclad.cli import options, output, text
from ironclad.cli.installation import opened
from ironclad.cli.named import named
from ironclad.errors import BadRequest
from ironclad.jobs import query
from ironclad.jobs.explain import Explanation, explain
from ironclad.jobs.phrases import say

app = typer.Typer(rich_markup_mode=None, add_completion=False)

JSON: Final = {
    "jobs why": {
        "job_uuid": "The job.", "name": "What it is called.", "state": "Its state.", "summary": "That in a sentence.",
        "stage": "Where it is, or stopped.", "code": "The error, or null.", "cause": "What happened.",
        "tried": "One line an attempt.", "done": "What Ironclad did about it.", "todo": "What you can do.",
        "log": "The lines of its log that matter.", "links": "Pages below docs/ that say more.",
    },
    "jobs bundle": {"file": "The archive.", "files": "What is in it, by name, with bytes and sha256."},
}  # fmt: skip
Reference = Annotated[str, typer.Argument(metavar="JOB", help="Its id, or the beginning or end of it.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command(no_args_is_help=True)
def why(context: typer.Context, job: Reference, *, as_json: AsJson = False) -> None:
    """Say in plain words why a job is where it is, and what you can do."""
    with opened(context) as installation, installation.database.session() as session:
        found = explain(session, installation.settings.layout, query.find(session, job))
    if as_json:
        output.print_json(found.to_dict())
    else:
        _print(found)


def _print(found: Explanation) -> None:
    output.say(f"{found.name}  job {text.short_id(found.job_uuid)}: {found.state}", style="bold")
    output.say(found.summary)
    if found.cause:
        output.say(say("title.why", cause=found.cause) + (f" ({found.code})" if found.code else ""))
    read = (say("phrase.do_read", links=", ".join(f"docs/{page}" for page in found.links)),) if found.links else ()
    for title, lines in (
        ("tried", found.tried), ("done", found.done), ("todo", (*found.todo, *read)), ("log", found.log),
    ):  # fmt: skip
        if lines:
            output.say(say(f"title.{title}") + ":", style="bold")
            for line in lines:
                output.say(f"  - {line}")


@app.command(no_args_is_help=True)
def bundle(
    context: typer.Context,
    job: Reference,
    *,
    out: Annotated[Path, typer.Option("--output", "-o", parser=named, metavar="FILE.zip", help="Where to write it.")],
    with_audio: Annotated[
        bool, typer.Option("--with-audio", help="Put the original in, too; asks first.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Collect all that is known of a job for a report, without secrets.

    Passwords, tokens, your home folder and the names of other users are taken out. Look into it before you send it.
    """
    from ironclad.ops import bundle as making  # noqa: PLC0415 - reads packages' versions; other commands need none

    if out.exists():
        raise BadRequest(f"{out} is there already.")
    if with_audio and not yes and not typer.confirm("The recording may be under copyright. Put it in?"):
        raise typer.Abort
    loaded = options.of(context).loaded()
    with opened(context) as installation, installation.database.session() as session:
        found = query.find(session, job)
        files = making.write(session, loaded, found, out, with_audio=with_audio)
    if as_json:
        output.print_json({"file": str(out), "files": files})
    else:
        output.say(f"{out}: {text.counted(len(files), 'file')}. Look into it before you send it.")
