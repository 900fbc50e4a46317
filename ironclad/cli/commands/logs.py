"""`ironclad logs`."""

from __future__ import annotations

import heapq
import json
import threading
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.text import Text

from ironclad.cli import options, output, text
from ironclad.errors import BadRequest
from ironclad.jobs.states import SETTLED
from ironclad.ops import logtail, looking

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from ironclad.ops.looking import LogLine

app = typer.Typer(rich_markup_mode=None, add_completion=False)

JSON: Final = {
    "logs": {
        "at": "When.", "level": "debug, info, warning, error, critical or output (no JSON line).",
        "service": "Who wrote it.", "job_uuid": "About which job, if any.", "event": "What happened.",
        "…": "What else the line has: host, user_id, trace_id, stage, attempt …; one object a line.",
    }
}  # fmt: skip
_LOOK_SECONDS: Final = 0.5
_STYLES: Final = {"warning": "yellow", "error": "red", "critical": "red"}
_IDENTITY: Final = frozenset({"host", "user_id", "trace_id"})
_ENDED: Final = frozenset(state.value for state in SETTLED)


@app.command()
def logs(
    context: typer.Context,
    job: Annotated[
        str | None, typer.Argument(metavar="JOB", help="Of this job only: its id, or the beginning or end of it.")
    ] = None,
    *,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with new lines, until the job has ended or Ctrl-C.")
    ] = False,
    service: Annotated[str, typer.Option("--service", metavar="NAME", help="Of this service only.")] = "",
    level: Annotated[
        str, typer.Option("--level", metavar="LEVEL", help="debug, info, warning, error or critical, or worse.")
    ] = "debug",
    lines: Annotated[
        int, typer.Option("--lines", "-n", metavar="N", min=0, help="At most so many to begin with.")
    ] = 200,
    as_json: Annotated[bool, typer.Option("--json", help="Print the lines as JSON, one a line.")] = False,
) -> None:
    """Show the logs of a job or of the services.

    Oldest first. Nothing needs to run, the database neither.
    """
    if level not in {"debug", "info", "warning", "error", "critical"}:
        raise BadRequest(f"{level} is no level; there is debug, info, warning, error, critical.")
    if job is not None and service:
        raise BadRequest("Give a job or a service: a job's log has the lines of all services that worked on it.")
    layout = options.of(context).settings(quiet=True).layout
    files = (logtail.job_file(layout, job),) if job is not None else logtail.service_files(layout, service)
    # Where following begins is where showing ends: nothing is shown twice or left out.
    tails = [logtail.Tail(path) for path in files]
    _show(_before(files, lines, level), as_json=as_json)
    if follow:
        _follow(tails, level, job is not None, as_json=as_json)


def _before(files: tuple[Path, ...], lines: int, level: str) -> list[LogLine]:
    kept = [logtail.last(path, lines, level) for path in files]
    merged = list(heapq.merge(*kept, key=lambda line: line.at))
    return merged[-lines:] if lines else []


def _follow(tails: list[logtail.Tail], level: str, one_job: bool, *, as_json: bool) -> None:  # noqa: FBT001 - private
    pause = threading.Event()
    while not (one_job and _has_ended(tails[0].path)):
        pause.wait(_LOOK_SECONDS)  # files of other processes, perhaps on a network: there is no event to await
        _news(tails, level, as_json=as_json)
    _news(tails, level, as_json=as_json)


def _news(tails: list[logtail.Tail], level: str, *, as_json: bool) -> None:
    news = [line for tail in tails for line in tail.news() if looking.worse(line, level)]
    _show(sorted(news, key=lambda line: line.at), as_json=as_json)


def _has_ended(path: Path) -> bool:
    """Whether the last line says that the job needs no further attempt."""
    last = looking.tail(path, 1)
    return bool(last) and last[0].event == "attempt_ended" and last[0].rest.get("state") in _ENDED


def _show(lines: Iterable[LogLine], *, as_json: bool) -> None:
    console = output.stdout()
    for line in lines:
        if as_json:
            print(json.dumps(_plain(line)), flush=True)  # noqa: T201 - the front's own output, a line an object
        else:
            console.print(_words(line), soft_wrap=True)


def _plain(line: LogLine) -> dict[str, Any]:
    named = {
        "at": line.at, "level": line.level, "service": line.service, "job_uuid": line.job_uuid, "event": line.event
    }  # fmt: skip
    return {**{key: value for key, value in named.items() if value}, **line.rest}


def _words(line: LogLine) -> Text:
    rest = " ".join(
        f"{key}={value if isinstance(value, str | int | float) else json.dumps(value)}"
        for key, value in line.rest.items() if key not in _IDENTITY
    )  # fmt: skip
    job = f" {text.short_id(line.job_uuid)}" if line.job_uuid else ""
    said = f"{line.at[:19].replace('T', ' ')} {line.level:<8} {line.service}{job} {line.event} {rest}".rstrip()
    return Text(text.printable(said), style=_STYLES.get(line.level, ""))
