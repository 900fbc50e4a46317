"""`ironclad verify`."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.text import Text

from ironclad.cli import exits, options, output, text
from ironclad.cli.installation import opened
from ironclad.cli.named import named
from ironclad.errors import NoInstallation
from ironclad.library.verify import Subset
from ironclad.ops.library.checking import check_library
from ironclad.ops.library.drift import told

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ironclad.db.session import Database
    from ironclad.library.verify import Check

app = typer.Typer(rich_markup_mode=None, add_completion=False)

JSON: Final = {
    "verify": {
        "root": "What was checked.",
        "subset": "Which part of it, or null.",
        "checked": "How many files.",
        "ok": "Whether nothing is wrong.",
        "problems": "Each with path, verdict (missing, changed, damaged, unreadable) and detail.",
    }
}


@app.command()
def verify(
    context: typer.Context,
    path: Annotated[
        Path | None,
        typer.Argument(parser=named, metavar="PATH", help="A folder, a file or a receipt; the library by default."),
    ] = None,
    *,
    subset: Annotated[
        str | None, typer.Option("--subset", metavar="N/M", help="Only this part: 1/7 to 7/7 check all in a week.")
    ] = None,
    decode: Annotated[bool, typer.Option("--decode", help="Decode each file too, and compare its length.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check published files against their receipts.

    Ends with exit code 1 if a file is missing or not what was published. No file is changed; who is notified hears of
    what became worse or better since it was last checked.
    """
    settings = options.of(context).settings(quiet=True)
    part = None if subset is None else Subset.parse(subset)
    root = (path or settings.layout.output).absolute()
    problems: list[Check] = []
    checked = 0
    with _records(context) as database:
        checks = check_library(root, settings, database, part, listen=decode)
        if database is not None:
            checks = told(checks, database, settings.layout.output.absolute(), root, part)
        for one in checks:
            checked += 1
            if not one.verdict.good:
                problems.append(one)
                if not as_json:
                    line = Text(one.verdict.value, style="red")
                    detail = f": {one.detail}" if one.detail else ""
                    output.stdout().print(line.append(text.printable(f"  {one.path}{detail}"), "default"))
    if as_json:
        output.print_json(
            {
                "root": root, "subset": subset, "checked": checked, "ok": not problems,
                "problems": [
                    {"path": one.path, "verdict": one.verdict.value, "detail": one.detail} for one in problems
                ],
            }
        )  # fmt: skip
    else:
        output.say(f"{text.counted(checked, 'file')} checked, {text.counted(len(problems), 'problem')}.")
    if problems:
        raise typer.Exit(exits.FAILED)


@contextlib.contextmanager
def _records(context: typer.Context) -> Iterator[Database | None]:
    """The installation's database; None where there is no installation (a library on another machine, say)."""
    with contextlib.ExitStack() as stack:
        try:
            database = stack.enter_context(opened(context, quiet=True)).database
        except NoInstallation:
            database = None
        yield database
