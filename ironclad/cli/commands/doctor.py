"""`ironclad doctor`."""

from __future__ import annotations

import time
from typing import Annotated, Final

import typer
from rich.text import Text

from ironclad.cli import exits, options, output, text
from ironclad.ops.checks.outcome import Level
from ironclad.ops.doctor import diagnose

app = typer.Typer(rich_markup_mode=None, add_completion=False)

JSON: Final = {
    "doctor": {
        "ok": "Whether no check failed (warnings are allowed).",
        "findings": "Each with name, status (ok, warn, fail), detail, remedy, seconds.",
    }
}
_STYLES: Final = {Level.OK: "green", Level.WARN: "yellow", Level.FAIL: "red"}
_WORD_WIDTH: Final = 4


@app.command()
def doctor(
    context: typer.Context, *, as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False
) -> None:
    """Check the installation; each problem comes with what to do.

    Ends with exit code 1 if a check failed. Nothing is changed, and nothing needs to run.
    """
    settings = options.of(context).settings(quiet=True)
    console = output.stdout()
    began = time.monotonic()
    findings = []
    for finding in diagnose(settings):
        findings.append(finding)
        if not as_json:
            line = Text(f"{finding.status.value:<{_WORD_WIDTH}}", style=_STYLES[finding.status])
            console.print(line.append(f"  {text.printable(finding.name)}: {text.printable(finding.detail)}", "default"))
            if finding.remedy and finding.status is not Level.OK:
                console.print(Text(f"{'':<{_WORD_WIDTH}}  What to do: {text.printable(finding.remedy)}"))
    failed = sum(finding.status is Level.FAIL for finding in findings)
    warned = sum(finding.status is Level.WARN for finding in findings)
    if as_json:
        output.print_json({"ok": not failed, "findings": [finding.to_dict() for finding in findings]})
    else:
        took = text.duration(time.monotonic() - began)
        output.say(f"{len(findings)} findings in {took}: {failed} failed, {warned} warnings.")
    if failed:
        raise typer.Exit(exits.FAILED)
