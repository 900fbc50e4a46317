"""`ironclad doctor`."""

from __future__ import annotations

import contextlib
import time
from typing import Annotated, Final

import typer
from rich.text import Text

from ironclad.cli import exits, options, output, text
from ironclad.ops.checks.outcome import Level
from ironclad.ops.doctor import diagnose
from ironclad.ops.health import Status

app = typer.Typer(rich_markup_mode=None, add_completion=False)

JSON: Final = {
    "doctor": {
        "ok": "Whether no check failed (warnings are allowed).",
        "findings": "Each with name, status (ok, warn, fail), detail, remedy, seconds.",
    }
}
_STYLES: Final[dict[str, str]] = {
    Level.OK: "green", Level.WARN: "yellow", Level.FAIL: "red", Status.DEGRADED: "yellow", Status.FAILED: "red",
}  # fmt: skip
_WORD_WIDTH: Final = 4


def show(status: str, name: str, detail: str, remedy: str) -> None:
    """One finding for people; what is well needs no remedy."""
    console = output.stdout()
    line = Text(f"{status:<{_WORD_WIDTH}}", style=_STYLES.get(status, ""))
    said = f": {text.printable(detail)}" if detail else ""
    console.print(line.append(f"  {text.printable(name)}{said}", "default"))
    if remedy and status != Level.OK:
        console.print(Text(f"{'':<{_WORD_WIDTH}}  What to do: {text.printable(remedy)}"))


@app.command()
def doctor(
    context: typer.Context, *, as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False
) -> None:
    """Check the installation; each problem comes with what to do.

    Ends with exit code 1 if a check failed. Nothing is changed, and nothing needs to run.
    """
    settings = options.of(context).settings(quiet=True)
    began = time.monotonic()
    findings = []
    with contextlib.closing(diagnose(settings)) as found:
        for finding in found:
            findings.append(finding)
            if not as_json:
                show(finding.status.value, finding.name, finding.detail, finding.remedy)
    failed = sum(finding.status is Level.FAIL for finding in findings)
    warned = sum(finding.status is Level.WARN for finding in findings)
    if as_json:
        output.print_json({"ok": not failed, "findings": [finding.to_dict() for finding in findings]})
    else:
        took = text.duration(time.monotonic() - began)
        output.say(f"{len(findings)} findings in {took}: {failed} failed, {warned} warnings.")
    if failed:
        raise typer.Exit(exits.FAILED)
