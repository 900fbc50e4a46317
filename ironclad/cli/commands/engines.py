"""`ironclad engines`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from ironclad.cli import options, output, text
from ironclad.engines.registry import installed_engines

if TYPE_CHECKING:
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
    "parameters": "Each with name, kind, default, minimum, maximum, choices, unit, help, affects_result.",
    "models": "Each with name, title, licence, quality, stems, bytes, digest.",
}
JSON: Final = {
    "engines list": {
        "engines": "Each as `engines show` has it.",
        "broken": "Plugins that do not load, each with name and error.",
    },
    "engines show": _ENGINE,
}

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.callback()
def engines() -> None:
    """List and show separation engines."""


def _data(spec: EngineSpec, plugin: str, default: str) -> dict[str, Any]:
    return {**spec.to_dict(), "default": spec.name == default, "plugin": plugin}


@app.command("list")
def list_engines(context: typer.Context, *, as_json: AsJson = False) -> None:
    """List the engines that are installed."""
    default = options.of(context).settings().engine.name
    registry = installed_engines()
    found = [_data(spec, registry.provider(spec.name).name, default) for spec in registry]
    broken = [{"name": state.name, "error": state.error} for state in registry.plugins() if state.error]
    if as_json:
        output.print_json({"engines": found, "broken": broken})
        return
    grid = output.Grid(("ENGINE", "DEFAULT", "STEMS", "DEVICES", "QUALITY"), wide="QUALITY")
    for engine in found:
        grid.add(
            engine["name"], "yes" if engine["default"] else None, " ".join(engine["stems"]),
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
    default = options.of(context).settings().engine.name
    registry = installed_engines()
    engine = _data(registry.get(name), registry.provider(name).name, default)
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
