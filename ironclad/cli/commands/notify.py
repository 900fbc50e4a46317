"""`ironclad notify`."""

from __future__ import annotations

import contextlib
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from ironclad.cli import options, output, text
from ironclad.cli.installation import opened
from ironclad.errors import BadRequest
from ironclad.notify import control, query

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sqlmodel import Session

    from ironclad.cli.installation import Installation

app, silences, letters = (
    typer.Typer(rich_markup_mode=None, add_completion=False, no_args_is_help=True, help=words)
    for words in (
        "Alerts, silences, dead letters; try a channel.",
        "Tell nobody of some things for a while.",
        "Messages that were given up.",
    )
)
app.add_typer(silences, name="silence")
app.add_typer(letters, name="dead")

_ALERT: Final = "Each with key, kind, status, severity, since, changed_at, labels, data, acked_at, acked_by."
_MESSAGE: Final = (
    "Each with message_uuid, channel, state, severity, title, text, events, made_at, attempt, settled_at, answer."
)
JSON: Final = {
    "notify list": {
        "alerts": _ALERT, "overview": "Numbers of unrouted, pending, waiting, dead, firing, silences; channels.",
    },
    "notify show": {"alert": "The alert, as in list.", "told": "What became of each event on each channel."},
    "notify ack": {"acknowledged": "The alert's key."},
    "notify test": {"channel": "Its name.", "answer": "What came back.", "seconds": "How long it took."},
    "notify silence add": {"silence": "Its number.", "ends_at": "When it ends."},
    "notify silence list": {"silences": "Each with id, matchers, comment, created_by, created_at, ends_at."},
    "notify silence remove": {"removed": "Its number."},
    "notify dead list": {"messages": _MESSAGE},
    "notify dead resend": {"resent": "How many."},
    "notify dead drop": {"dropped": "How many."},
}  # fmt: skip

Alert = Annotated[str, typer.Argument(metavar="ALERT", help="Its key, or the end of it.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Letters = Annotated[list[str] | None, typer.Argument(metavar="MESSAGE", help="Ids, or a part of them (`dead list`).")]
All = Annotated[bool, typer.Option("--all", help="Every dead letter.")]


@app.command("list")
def list_(
    context: typer.Context,
    *,
    everything: Annotated[bool, typer.Option("--all", "-a", help="Also those that are over.")] = False,
    limit: Annotated[int, typer.Option("--limit", "-n", metavar="N", help="At most so many.", min=1)] = 50,
    as_json: Json = False,
) -> None:
    """List alerts: what fires now, the newest first."""
    with _session(context) as (installation, session):
        channels = bool(installation.settings.notify.channels)
        found = query.alerts(session, everything=everything, limit=limit)
        view = query.overview(session)
    grid = output.Grid(("ALERT", "SEVERITY", "STATE", "SINCE", "ABOUT", "ACKNOWLEDGED"), states="STATE", wide="ABOUT")
    for one in found:
        grid.add(one.key, one.severity, one.status, text.ago(one.since), one.name, one.acked_by)
    data = {"alerts": [query.as_dict(one) for one in found], "overview": query.as_dict(view)}
    _listed(data, grid, "Nothing fires.", as_json=as_json)
    for line in () if as_json else summary(view, channels=channels):
        output.say(line)


def summary(view: query.Overview, *, channels: bool) -> list[str]:
    """What an operator should know of notifications, in lines; none if all is well."""
    lines = []
    if view.dead:
        lines.append(f"{view.dead} dead letters: `ironclad notify dead list`.")
    if view.silences:
        lines.append(f"{view.silences} silences: `ironclad notify silence list`.")
    if view.unrouted + view.waiting:
        age = text.duration(view.oldest_seconds)
        nobody = "" if channels else " No channel is set (notify.channels), so nobody is told."
        lines.append(f"{view.unrouted + view.waiting} wait to be sent, the oldest for {age}.{nobody}")
    return lines


@app.command(no_args_is_help=True)
def show(
    context: typer.Context,
    alert: Alert,
    *,
    as_json: Json = False,
) -> None:
    """Show one alert, and who was told of it."""
    with _session(context) as (_, session):
        found = query.alert(session, alert)
        told = query.told(session, found.key)
    if as_json:
        output.print_json({"alert": query.as_dict(found), "told": told})
        return
    output.fields(
        [
            ("alert", found.key), ("status", found.status), ("severity", found.severity),
            ("since", text.ago(found.since)),
            ("about", found.name), ("what", found.data.get("what")), ("detail", found.data.get("detail")),
            ("what to do", found.data.get("hint")), ("acknowledged", found.acked_by),
            ("labels", ", ".join(f"{name}={value}" for name, value in sorted(found.labels.items()) if value)),
        ]
    )  # fmt: skip
    grid = output.Grid(("TIME", "EVENT", "CHANNEL", "BECAME", "MESSAGE", "ANSWER"), wide="ANSWER")
    for row in told:
        became = row["reason"] or row["state"]
        message = (
            None if row["message_uuid"] is None else f"{text.short_id(row['message_uuid'])} {row['message_state']}"
        )
        grid.add(text.ago(row["at"]), row["status"], row["channel"], became, message, row["answer"])
    grid.print()


@app.command(no_args_is_help=True)
def ack(
    context: typer.Context,
    alert: Alert,
    *,
    as_json: Json = False,
) -> None:
    """Acknowledge an alert: it is neither repeated nor escalated."""
    with _session(context) as (installation, session):
        key = query.alert(session, alert).key
        control.acknowledge(session, key, actor=installation.actor)
    _done({"acknowledged": key}, f"Acknowledged {key}.", as_json=as_json)


@app.command("test", no_args_is_help=True)
def try_channel(
    context: typer.Context,
    channel: Annotated[str, typer.Argument(metavar="CHANNEL", help="Its name in notify.channels.")],
    *,
    as_json: Json = False,
) -> None:
    """Send a message to a channel for real, and say what came back."""
    settings = options.of(context).settings()
    began = time.monotonic()
    answer = control.try_channel(settings.notify, channel)
    seconds = round(time.monotonic() - began, 3)
    data = {"channel": channel, "answer": answer, "seconds": seconds}
    _done(data, f"{channel} took it after {text.duration(seconds)}: {answer}", as_json=as_json)


@silences.command("add", no_args_is_help=True)
def silence_add(
    context: typer.Context,
    matchers: Annotated[
        list[str],
        typer.Argument(metavar="NAME=PATTERN", help="kind=job_failed, code=E_*, user=ana, alert=disk … (globs)."),
    ],
    *,
    last: Annotated[str, typer.Option("--for", metavar="TIME", help="How long: 30m, 2h, 3d.")],
    comment: Annotated[str, typer.Option("--comment", metavar="TEXT", help="Why.")] = "",
    as_json: Json = False,
) -> None:
    """Silence what matches all patterns. What still fires when it ends is told then."""
    wanted = dict(_matcher(one) for one in matchers)
    now = datetime.now(UTC)
    length = now - text.parse_since(last, now)
    if length <= timedelta(0):
        raise BadRequest("--for takes a length of time: 30m, 2h, 3d.")
    with _session(context) as (installation, session):
        ends_at = now + length
        number = control.silence(session, wanted, ends_at=ends_at, comment=comment, actor=installation.actor)
    data = {"silence": number, "ends_at": ends_at}
    _done(data, f"Silence {number} ends {text.ago(ends_at)}.", as_json=as_json)


@silences.command("list")
def silence_list(context: typer.Context, *, as_json: Json = False) -> None:
    """List the silences that have not ended."""
    with _session(context) as (_, session):
        found = query.silences(session)
    grid = output.Grid(("N", "MATCHES", "ENDS", "BY", "COMMENT"), right=frozenset({"N"}), wide="COMMENT")
    for one in found:
        matches = " ".join(f"{name}={pattern}" for name, pattern in one.matchers.items())
        grid.add(one.id, matches, text.ago(one.ends_at), one.created_by, one.comment)
    _listed({"silences": [query.as_dict(one) for one in found]}, grid, "There is no silence.", as_json=as_json)


@silences.command("remove", no_args_is_help=True)
def silence_remove(
    context: typer.Context,
    number: Annotated[int, typer.Argument(metavar="N", help="Its number (`silence list`).")],
    *,
    as_json: Json = False,
) -> None:
    """End a silence now."""
    with _session(context) as (_, session):
        control.end_silence(session, number)
    _done({"removed": number}, f"Silence {number} has ended.", as_json=as_json)


@letters.command("list")
def dead_list(context: typer.Context, *, as_json: Json = False) -> None:
    """List the messages that were given up, and what came back."""
    with _session(context) as (_, session):
        found = query.messages(session, states=("dead",), limit=1000)
    grid = output.Grid(("MESSAGE", "CHANNEL", "MADE", "ATTEMPTS", "TITLE", "ANSWER"), wide="ANSWER")
    for one in found:
        number = text.short_id(one.message_uuid)
        grid.add(number, one.channel, text.ago(one.made_at), one.attempt, one.title, one.answer)
    _listed({"messages": [query.as_dict(one) for one in found]}, grid, "There is no dead letter.", as_json=as_json)


@letters.command("resend", no_args_is_help=True)
def dead_resend(
    context: typer.Context,
    messages: Letters = None,
    *,
    every: All = False,
    channel: Annotated[str | None, typer.Option("--channel", metavar="CHANNEL", help="To another channel.")] = None,
    as_json: Json = False,
) -> None:
    """Put dead letters back into the queue."""
    with _session(context) as (installation, session):
        known = installation.settings.notify.channels
        if channel is not None and channel not in known:
            raise BadRequest(f"There is no channel {channel}; there is {', '.join(known) or 'none yet'}.")
        count = control.resend(session, query.dead(session, _chosen(messages, every=every)), channel=channel)
    _done({"resent": count}, f"{count} are sent again.", as_json=as_json)


@letters.command("drop", no_args_is_help=True)
def dead_drop(context: typer.Context, messages: Letters = None, *, every: All = False, as_json: Json = False) -> None:
    """Give dead letters up for good; they are forgotten after notify.keep_days."""
    with _session(context) as (_, session):
        count = control.drop(session, query.dead(session, _chosen(messages, every=every)))
    _done({"dropped": count}, f"{count} dropped.", as_json=as_json)


@contextlib.contextmanager
def _session(context: typer.Context) -> Iterator[tuple[Installation, Session]]:
    with opened(context) as installation, installation.database.session() as session:
        yield installation, session


def _listed(data: dict[str, Any], grid: output.Grid, nothing: str, *, as_json: bool) -> None:
    if as_json:
        output.print_json(data)
    elif grid.rows:
        grid.print()
    else:
        output.say(nothing)


def _chosen(messages: Sequence[str] | None, *, every: bool) -> Sequence[str]:
    if bool(messages) == every:
        raise BadRequest("Give ids of dead letters, or --all.")
    return messages or ()


def _matcher(given: str) -> tuple[str, str]:
    name, _, pattern = given.partition("=")
    if not name or not pattern:
        raise BadRequest(f"{given!r} is no NAME=PATTERN, as kind=job_failed or code=E_*.")
    return name, pattern


def _done(data: dict[str, Any], said: str, *, as_json: bool) -> None:
    if as_json:
        output.print_json(data)
    else:
        output.say(said)
