"""`ironclad backup`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from ironclad.cli import options, output, text
from ironclad.cli.installation import opened
from ironclad.errors import BadRequest, NoInstallation
from ironclad.ops import backup as backups
from ironclad.ops import drill

if TYPE_CHECKING:
    from pathlib import Path

    from ironclad.config import Settings
    from ironclad.ops.backup import Manifest

app = typer.Typer(rich_markup_mode=None, add_completion=False)

_DUMP: Final = {
    "dump": "The file's name.", "path": "Where it is.", "created_at": "When it was made.",
    "revision": "The revision of the database.", "bytes": "Its size.", "rows": "Rows of all tables.",
    "proven": "Whether a drill has restored it.",
    "drill": "The last drill: `at`, `seconds`, `problem` (empty if all came back), or null.",
}  # fmt: skip
JSON: Final = {
    "backup create": {**_DUMP, "pruned": "Dumps that were deleted for their age."},
    "backup list": {"dumps": "The newest first, each with the keys of `backup create`."},
    "backup verify": _DUMP,
    "backup restore": {"restored": "The dump.", "before": "The dump of what was there before, or null."},
}

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.callback(invoke_without_command=True)
def backup(context: typer.Context) -> None:
    """Dump the database, prove dumps by restoring them, restore one.

    `ironclad backup` alone is `ironclad backup create`. The library is files: back those up as you do others.
    """
    if context.invoked_subcommand is None:
        _create(context, as_json=False)


@app.command()
def create(context: typer.Context, *, as_json: AsJson = False) -> None:
    """Write a dump and its manifest into backups/; delete dumps that are too old.

    Nothing is stopped for it. The rules are backup.* in the settings.
    """
    _create(context, as_json=as_json)


def _create(context: typer.Context, *, as_json: bool) -> None:
    with opened(context, migrate=False) as installation:
        settings = installation.settings
        with backups.alone(settings):
            path = backups.dump(settings, installation.database)
            gone = backups.prune(settings)
    manifest = backups.load(path)
    if as_json:
        output.print_json({**_row(path, manifest), "pruned": [one.name for one in gone]})
        return
    for one in gone:
        output.say(f"deleted {one.name}: older than {settings.backup.keep_days:g} days")
    output.say(f"The database was written to {path}.")


@app.command("list")
def list_(context: typer.Context, *, as_json: AsJson = False) -> None:
    """List the dumps, and what drills made of them."""
    rows = [_row(path, manifest) for path, manifest in backups.dumps(_installed(context))]
    if as_json:
        output.print_json({"dumps": rows})
        return
    for row in rows:
        output.say(f"{row['dump']}  {text.size(row['bytes'])}  {_words(row)}")
    if not rows:
        output.say("There is no dump yet: `ironclad backup create` makes one.")


@app.command()
def verify(
    context: typer.Context,
    dump: Annotated[str | None, typer.Argument(metavar="DUMP", help="Its file name; the newest by default.")] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Restore a dump into a server made for it, and compare every table with the manifest.

    The installation's own database is not touched, nor even needed.
    """
    settings = _installed(context)
    manifest = drill.verify(settings, dump)
    row = _row(settings.layout.backups / manifest.dump, manifest)
    if as_json:
        output.print_json(row)
    else:
        output.say(f"{manifest.dump}: {len(manifest.tables)} tables, {row['rows']} rows, {_words(row)}")


@app.command()
def restore(
    context: typer.Context,
    dump: Annotated[str, typer.Argument(metavar="DUMP", help="Its file name (`ironclad backup list`).")],
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask: what came after the dump is lost.")] = False,
    as_json: AsJson = False,
) -> None:
    """Put a dump back into the database, all or nothing, after a dump of what is there now.

    Stop the services first. The library's files are not touched; `ironclad orphans` tells which no job knows any more.
    """
    if not yes:
        if not sys.stdin.isatty():
            raise BadRequest("A restore loses what came after the dump; say --yes.")
        typer.confirm(f"Put {dump} back and lose what came after it?", abort=True, err=True)
    with opened(context, create=True, migrate=False) as installation:
        path, before = drill.restore(installation.settings, installation.database, dump)
    if as_json:
        output.print_json({"restored": path, "before": before})
        return
    if before is not None:
        output.say(f"What was there is in {before}.")
    output.say(f"The database is what {path.name} holds.")


def _installed(context: typer.Context) -> Settings:
    settings = options.of(context).settings()
    if not settings.layout.backups.is_dir():
        raise NoInstallation(f"{settings.layout.root} has no backups/.")
    return settings


def _row(path: Path, manifest: Manifest | None) -> dict[str, Any]:
    if manifest is None:
        return {"dump": path.name, "path": path, "created_at": None, "revision": None, "bytes": path.stat().st_size,
                "rows": None, "proven": False, "drill": None}  # fmt: skip
    return {
        "dump": path.name, "path": path, "created_at": manifest.created_at.isoformat(), "revision": manifest.revision,
        "bytes": manifest.bytes, "rows": sum(table.rows for table in manifest.tables.values()),
        "proven": manifest.proven,
        "drill": None if manifest.drill is None else manifest.drill.model_dump(mode="json"),
    }  # fmt: skip


def _words(row: dict[str, Any]) -> str:
    if row["created_at"] is None:
        return "without a manifest"
    if row["drill"] is None:
        return "not tried yet"
    if row["proven"]:
        return f"restored in a drill at {row['drill']['at'][:16]} within {row['drill']['seconds']:.1f} s"
    return f"NOT RESTORED at {row['drill']['at'][:16]}: {row['drill']['problem']}"
