"""`ironclad install`."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from ironclad import durable
from ironclad.cli import options, output
from ironclad.cli.named import named
from ironclad.ops.install import compose as project
from ironclad.ops.install import files, units
from ironclad.ops.install.services import CONFIG, ROLES, Host

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ironclad.ops.install.files import Planned

app = typer.Typer(rich_markup_mode=None, add_completion=False, no_args_is_help=True)

_FILES: Final = {
    "files": "Each file: `path`, `outcome` (created, changed, unchanged, removed, edited) and, with --dry-run, `text`.",
    "next": "The commands to give next, in order.",
}
JSON: Final = {"install systemd": _FILES, "install compose": _FILES}
_FORMER: Final = (
    "etc/systemd/system/ironclad*.service", "etc/systemd/system/ironclad*.timer", "etc/systemd/system/ironclad*.socket",
    "etc/systemd/system/ironclad*.service.d/10-gpu.conf",
)  # fmt: skip
_SHARED: Final = (
    "input", "archive", "work", "output", "error", "models", "cover-art-cache", "orphaned", "backups", "uploads",
)  # fmt: skip
_SYSTEM_DATA: Final = Path("/var/lib/ironclad")

Root = Annotated[
    Path, typer.Option("--root", parser=named, metavar="DIR", help="Write below this folder instead of `/`.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Write nothing; print what would be written.")]
Force = Annotated[bool, typer.Option("--force", help="Write also over files that were changed; keeps NAME.old.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.callback()
def install() -> None:
    """Write the files that make services of Ironclad on this host."""


@app.command()
def systemd(
    context: typer.Context,
    *,
    root: Root = Path("/"),
    dry_run: DryRun = False,
    force: Force = False,
    user: Annotated[str, typer.Option("--user", metavar="NAME", help="The account that services run as.")] = "ironclad",
    program: Annotated[
        Path | None,
        typer.Option("--program", parser=named, metavar="FILE", help="The ironclad to start; by default this one."),
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(
            "--only",
            metavar="SERVICE",
            help="Services of this host, repeated: postgres, prefect, watch, dispatch, notify, api, worker.",
        ),
    ] = None,
    allow: Annotated[
        list[str] | None,
        typer.Option(
            "--allow", metavar="ADDRESS", help="Hosts or networks that services may talk to, besides this one; or any."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write systemd units for this host; drop-ins of yours stay.

    Pools, watch roots and times come from the settings in force (--config chooses the file). The data folder is
    /var/lib/ironclad unless a setting or --data-dir says otherwise. Nothing is started.
    """
    loaded = options.of(context).loaded()
    settings = loaded.settings
    data_dir = _SYSTEM_DATA if loaded.origin("data_dir") == "default" else settings.layout.root
    own = {"postgres"} if settings.database_url is not None else set()
    remote = {"prefect"} if settings.prefect.api_url is not None else set()
    off = set() if settings.api.enabled else {"api"}
    host = Host(
        program=program or Path(sys.executable).with_name("ironclad"), data_dir=data_dir, user=user,
        pools=tuple(settings.pools),
        roles=tuple(only) if only else tuple(role for role in ROLES if role not in own | remote | off),
        drain_seconds=settings.prefect.drain_seconds,
        api=settings.api.host, api_stop_seconds=settings.api.stop_seconds,
        write_paths=(
            *(one.path for one in settings.ingest.roots if not one.path.is_relative_to(data_dir)),
            *_linked(data_dir),
        ),
        endpoints=settings.services.host, base_port=settings.services.base_port,
        networks=("any",) if "any" in (allow or ()) else ("localhost", *(allow or ())),
    )  # fmt: skip
    once = {CONFIG.relative_to("/"): units.settings_file(host)}
    planned = files.plan(root.absolute(), units.render(host), _FORMER, once)
    _carry_out(planned, _units_next(root.absolute()), dry_run=dry_run, force=force, as_json=as_json)


def _units_next(root: Path) -> list[str]:
    """What is left to do: on this host, or for a system that does not run and whose root folder was given."""
    if root == Path("/"):
        return [
            "systemd-sysusers", "systemd-tmpfiles --create", "systemctl daemon-reload",
            "systemctl enable --now ironclad.target",
        ]  # fmt: skip
    there = f"--root={shlex.quote(str(root))}"
    return [
        f"systemd-sysusers {there}", f"systemd-tmpfiles {there} --create", f"systemctl {there} enable ironclad.target",
    ]  # fmt: skip


def _linked(data_dir: Path) -> list[Path]:
    """Where folders of the data folder lead to that are links: storage shared by several hosts (docs/install.md)."""
    links = (data_dir / name for name in _SHARED)
    return [link.resolve() for link in links if link.is_symlink() and not link.resolve().is_relative_to(data_dir)]


@app.command()
def compose(
    context: typer.Context,
    *,
    folder: Annotated[
        Path, typer.Option("--dir", parser=named, metavar="DIR", help="Where the project is written.")
    ] = Path("ironclad-compose"),
    dry_run: DryRun = False,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Write a compose project: image recipe, services, fresh passwords.

    Pools and times come from the settings in force. Secrets, .env and ironclad.toml, which has the pools, are
    written once and then yours.
    """
    settings = options.of(context).settings()
    slots = {name: pool.slots for name, pool in settings.pools.items()}
    chosen = project.Project(
        drain_seconds=settings.prefect.drain_seconds, slots=slots.get("cpu", 1), gpu_slots=slots.get("gpu", 0),
        api_stop_seconds=settings.api.stop_seconds,
    )  # fmt: skip
    commands = [f"cd {shlex.quote(str(folder))}", "docker compose build", "docker compose up --detach --wait"]
    planned = files.plan(folder.absolute(), project.render(chosen), (), project.initial(chosen))
    if not dry_run:
        _private(folder.absolute() / "secrets")
    _carry_out(planned, commands, dry_run=dry_run, force=force, as_json=as_json)


def _private(folder: Path) -> None:
    """Compose mounts each file as it is, so a container's user must be able to read it; the folder keeps others out."""
    durable.make_dirs(folder)
    with durable.stored(folder):
        folder.chmod(0o700)


def _carry_out(
    planned: Sequence[Planned], commands: Sequence[str], *, dry_run: bool, force: bool, as_json: bool
) -> None:
    done = planned if dry_run else files.write(planned, force=force)
    if as_json:
        rows = [
            {
                "path": one.path,
                "outcome": one.outcome,
                **({"text": one.text} if dry_run and "secrets" not in one.path.parts else {}),
            }
            for one in done
        ]
        output.print_json({"files": rows, "next": list(commands)})
        return
    if dry_run:
        _show(done)
        return
    for one in done:
        output.say(f"{one.outcome:<9} {one.path}")
    output.say("\nNext:")
    for command in commands:
        output.say(f"    {command}")


def _show(planned: Sequence[Planned]) -> None:
    for one in planned:
        output.say(f"### {one.path} ({one.outcome})")
        if "secrets" not in one.path.parts:
            output.say(one.text)
