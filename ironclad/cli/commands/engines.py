"""`ironclad engines`."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from ironclad.cli import exits, options, output, text
from ironclad.cli.named import named
from ironclad.engines import checking, choice, environments, install
from ironclad.engines.registry import installed_engines
from ironclad.errors import BadRequest

if TYPE_CHECKING:
    from ironclad.config import Settings
    from ironclad.engines.contract import EngineSpec

app = typer.Typer(rich_markup_mode=None, add_completion=False, no_args_is_help=True)

_ENGINE: Final = {
    "name": "Its name, for --engine.",
    "title": "A few words.",
    "version": "Version of the separation code.",
    "api_version": "The plugin API that it was written for.",
    "default": "Whether it is the engine of the settings.",
    "plugin": "The plugin that brings it.",
    "quality": "One honest sentence about the results.",
    "stems": "What it makes.",
    "sample_rate": "Hz that it takes; null for any.",
    "channels": "Channels that it takes.",
    "devices": "Kinds of device that it can use, best first.",
    "pools": "Work pools that can run it, best first.",
    "exact_sum": "Whether the stems sum to the mixture.",
    "private_environment": "Whether it needs a virtual environment of its own.",
    "variants": "Environments to choose from, the usual one first, each with name, title, python; empty: no choice.",
    "converts": "Whether `models convert` makes other forms of its models.",
    "parameters": "Each with name, kind, default, minimum, maximum, choices, unit, help, affects_result.",
    "models": "Each with name, title, licence, quality, stems, bytes, digest.",
    "environment": "Its private environment (`engines install` has the keys); null for none.",
}
_ENVIRONMENT: Final = {
    "engine": "Whose it is.",
    "folder": "Where it is.",
    "digest": "Of the lock that it was built from.",
    "python": "Version of its Python.",
    "packages": "Versions by name.",
    "devices": "Kinds of device that the engine found when it was installed, best first.",
    "installed_at": "When.",
    "variant": "Which of the engine's variants it is; empty where there is no choice.",
}
JSON: Final = {
    "engines list": {
        "engines": "Each as `engines show` has it.",
        "broken": "Plugins that do not load, each with name and error.",
    },
    "engines show": _ENGINE,
    "engines install": _ENVIRONMENT,
    "engines check": {
        "engine": "Its name.",
        "python": "Version of the Python it runs with.",
        "devices": "Kinds of device that it finds now, best first.",
        "packages": "Versions by name.",
        "models": "Its models that are in the store, by name.",
        "problems": "Models that are damaged, each with model and error.",
    },
    "engines remove": {"engine": "Its name.", "removed": "Whether there was an environment."},
}

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.callback()
def engines() -> None:
    """List, show, install and remove separation engines."""


def _data(spec: EngineSpec, plugin: str, settings: Settings) -> dict[str, Any]:
    built = environments.current(settings.layout, spec.name) if environments.is_private(spec) else None
    return {
        **spec.to_dict(), "default": spec.name == settings.engine.name, "plugin": plugin,
        "environment": None if built is None else built.to_dict(),
    }  # fmt: skip


@app.command("list")
def list_engines(context: typer.Context, *, as_json: AsJson = False) -> None:
    """List the engines that are installed."""
    settings = options.of(context).settings()
    registry = installed_engines()
    found = [_data(spec, registry.provider(spec.name).name, settings) for spec in registry]
    broken = [{"name": state.name, "error": state.error} for state in registry.plugins() if state.error]
    if as_json:
        output.print_json({"engines": found, "broken": broken})
        return
    grid = output.Grid(("ENGINE", "DEFAULT", "INSTALLED", "STEMS", "DEVICES", "QUALITY"), wide="QUALITY")
    for engine in found:
        grid.add(
            engine["name"], "yes" if engine["default"] else None,
            "no" if engine["private_environment"] and engine["environment"] is None else "yes",
            " ".join(engine["stems"]),
            " ".join(engine["devices"]), engine["quality"],
        )  # fmt: skip
    grid.print()
    for plugin in broken:
        output.remark(f"Plugin {plugin['name']} is broken: {plugin['error']}", style="red")


@app.command()
def show(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="ENGINE", help="Its name.")],
    *,
    as_json: AsJson = False,
) -> None:
    """Show one engine: stems, models with their licences, parameters with their ranges."""
    settings = options.of(context).settings()
    registry = installed_engines()
    engine = _data(choice.declared(settings.layout, name), registry.provider(name).name, settings)
    if as_json:
        output.print_json(engine)
        return
    rate = engine["sample_rate"]
    output.fields(
        [
            ("engine", f"{engine['name']} {engine['version']}: {engine['title']}"),
            ("plugin", engine["plugin"]),
            ("quality", engine["quality"]),
            ("stems", ", ".join(engine["stems"])),
            ("input", f"{engine['channels']} channels, {'any rate' if rate is None else f'{rate} Hz'}"),
            ("devices", ", ".join(engine["devices"])),
            ("exact sum", "yes" if engine["exact_sum"] else "no"),
            *(("variant", f"{one['name']}: {one['title']}") for one in engine["variants"]),
        ]
    )
    models = output.Grid(("MODEL", "TITLE", "LICENCE", "SIZE"), right=frozenset({"SIZE"}), wide="TITLE")
    for model in engine["models"]:
        models.add(model["name"], model["title"], model["licence"], text.size(model["bytes"]))
    models.print()
    parameters = output.Grid(("PARAMETER", "DEFAULT", "RANGE", "HELP"), wide="HELP")
    for one in engine["parameters"]:
        parameters.add(one["name"], one["default"], _range(one), one["help"])
    if parameters.rows:
        parameters.print()


def _range(parameter: dict[str, Any]) -> str:
    if parameter["choices"]:
        return ", ".join(parameter["choices"])
    low, high = parameter["minimum"], parameter["maximum"]
    if low is None and high is None:
        return str(parameter["kind"])
    bounds = f"{'' if low is None else f'{low:g}'} … {'' if high is None else f'{high:g}'}"
    return f"{bounds} {parameter['unit']}".strip()


@app.command("install")
def install_engine(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="ENGINE", help="Its name.")],
    *,
    find_links: Annotated[
        list[Path] | None,
        typer.Option("--find-links", parser=named, metavar="DIR", help="A folder of wheels (repeatable)."),
    ] = None,
    extra_index: Annotated[
        list[str] | None,
        typer.Option("--extra-index", metavar="URL", help="One more package index, as for CPU builds (repeatable)."),
    ] = None,
    offline: Annotated[bool, typer.Option("--offline", help="From the folders of wheels alone.")] = False,
    again: Annotated[bool, typer.Option("--again", help="Even if it is installed.")] = False,
    variant: Annotated[
        str | None,
        typer.Option(
            "--variant", metavar="NAME", help="One that `engines show` lists; else the one installed, or the first."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Build the engine's private environment; an interrupted installation goes on where it stopped."""
    settings = options.of(context).settings()
    spec = installed_engines().get(name)
    source = install.Source(find_links=tuple(find_links or ()), extra_indexes=tuple(extra_index or ()), offline=offline)
    built = install.install(
        settings.layout, spec, source, again=again, uv=shutil.which("uv"), variant=variant,
        say=lambda line: output.remark(line) if line and not as_json else None,
    )  # fmt: skip
    if as_json:
        output.print_json(built.to_dict())
        return
    output.say(f"{name} runs with Python {built.python} in {built.folder}; devices: {', '.join(built.devices)}.")


@app.command()
def check(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="ENGINE", help="Its name.")],
    *,
    as_json: AsJson = False,
) -> None:
    """Import the engine where it runs, and read every byte of its models."""
    report = checking.check(options.of(context).settings().layout, name)
    if as_json:
        output.print_json(report)
    else:
        output.say(f"{name} runs with Python {report['python']}; devices: {', '.join(report['devices'])}.")
        output.say(f"Models: {', '.join(report['models']) or 'none'}.")
        for problem in report["problems"]:
            output.remark(f"{problem['model']}: {problem['error']['detail']}", style="red")
    if report["problems"]:
        raise typer.Exit(exits.FAILED)


@app.command()
def remove(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="ENGINE", help="Its name.")],
    *,
    as_json: AsJson = False,
) -> None:
    """Remove the engine's private environment; its models stay (`ironclad models remove`)."""
    if Path(name).name != name or name.startswith("."):
        raise BadRequest(f"{name!r} is not an engine's name")
    removed = install.remove(options.of(context).settings().layout, name)
    if as_json:
        output.print_json({"engine": name, "removed": removed})
    else:
        output.say(f"The environment of {name} is removed." if removed else f"{name} has no environment.")
