"""`ironclad health`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from ironclad.cli import exits, options, output, text
from ironclad.cli.commands import doctor
from ironclad.cli.installation import opened
from ironclad.ops import looking
from ironclad.ops.checks.outcome import Level
from ironclad.ops.doctor import DEEP, diagnose
from ironclad.ops.health import Status

if TYPE_CHECKING:
    from ironclad.config import Settings

app = typer.Typer(rich_markup_mode=None, add_completion=False)

JSON: Final = {
    "health": {
        "ok": "Whether nothing has failed (degraded is allowed).",
        "components": "Each with service, component, status (ok, degraded, failed), detail, remedy, since.",
        "findings": "Of the deep checks: name, status (ok, warn, fail), detail, remedy, seconds.",
        "history": "With --history: at, service, component, from, to, detail, remedy; newest first.",
    }
}


@app.command()
def health(
    context: typer.Context,
    *,
    quick: Annotated[
        bool, typer.Option("--quick", help="What the services say of themselves only; without deep checks.")
    ] = False,
    history: Annotated[
        int, typer.Option("--history", metavar="N", min=0, help="Show the last N changes instead, of all hosts.")
    ] = 0,
    component: Annotated[
        str, typer.Option("--component", metavar="NAME", help="With --history: of this component only.")
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show how services and what they depend on are, and were.

    Each problem comes with what to do. Ends with exit code 1 if anything has failed.
    """
    if history:
        _history(context, history, component, as_json=as_json)
        return
    settings = options.of(context).settings(quiet=True)
    components = looking.health(settings.layout.run)
    findings = [] if quick else list(diagnose(settings, DEEP))
    good = not any(one.status == Status.FAILED for one in components)
    good = good and not any(finding.status is Level.FAIL for finding in findings)
    if as_json:
        output.print_json(
            {
                "ok": good,
                "components": [_plain(one) for one in components],
                "findings": [finding.to_dict() for finding in findings],
            }
        )
    else:
        _show(settings, components)
        for finding in findings:
            doctor.show(finding.status.value, finding.name, finding.detail, finding.remedy)
    if not good:
        raise typer.Exit(exits.FAILED)


def _plain(one: looking.ComponentHealth) -> dict[str, Any]:
    since = datetime.fromtimestamp(one.since, UTC).isoformat() if one.since else None
    return {
        "service": one.service, "component": one.component, "status": one.status, "detail": one.detail,
        "remedy": one.remedy, "since": since,
    }  # fmt: skip


def _show(settings: Settings, components: tuple[looking.ComponentHealth, ...]) -> None:
    if not components:
        output.say(f"No service of {settings.layout.root} runs on this machine; `ironclad up` starts them.")
        return
    for one in components:
        since = f" (since {text.ago(datetime.fromtimestamp(one.since, UTC))})" if one.since else ""
        doctor.show(one.status, f"{one.service}, {one.component}{since}", one.detail, one.remedy)


def _history(context: typer.Context, count: int, component: str, *, as_json: bool) -> None:
    from ironclad.ops import health_log  # noqa: PLC0415 - brings the database's libraries

    with opened(context) as installation, installation.database.session() as session:
        changes = health_log.history(session, count, component)
    if as_json:
        output.print_json(
            {
                "history": [
                    {
                        "at": one.at.isoformat(), "service": one.service, "component": one.component,
                        "from": one.from_status, "to": one.to_status, "detail": one.detail, "remedy": one.remedy,
                    }
                    for one in changes
                ]
            }
        )  # fmt: skip
        return
    grid = output.Grid(("AT", "SERVICE", "COMPONENT", "FROM", "TO", "DETAIL"), states="TO")
    for one in changes:
        at = one.at.astimezone().strftime("%Y-%m-%d %H:%M:%S")
        grid.add(at, one.service, one.component, one.from_status or "", one.to_status, one.detail)
    grid.print(output.stdout())
