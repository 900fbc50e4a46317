"""`ironclad config`."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from ironclad.cli import options, output
from ironclad.config import Settings
from ironclad.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ironclad.config import Loaded

app = typer.Typer(rich_markup_mode=None, add_completion=False, no_args_is_help=True)

JSON: Final = {
    "config show": {
        "file": "The settings file in force, or null.",
        "settings": "Every setting, nested; secrets are masked.",
        "origins": "Where each value that is not a default came from, by dotted path.",
    },
    "config validate": {"valid": "true (a problem ends the command with E_CONFIG)", "file": "As above."},
}

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
_URL_PASSWORD: Final = re.compile(r"(\w+://[^/\s:@]*):[^@\s/]+@")


@app.callback()
def config() -> None:
    """Show and check the settings."""


def shown(loaded: Loaded) -> dict[str, Any]:
    """The settings as JSON-ready data without any secret."""
    data: dict[str, Any] = _masked(loaded.settings.model_dump(mode="json"))
    return data


def _masked(value: Any) -> Any:
    """Passwords in URLs are secrets, too, wherever they are."""
    if isinstance(value, dict):
        return {name: _masked(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_masked(item) for item in value]
    return _URL_PASSWORD.sub(r"\1:**********@", value) if isinstance(value, str) else value


def _flat(data: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in data.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


@app.command()
def show(
    context: typer.Context,
    *,
    origin: Annotated[bool, typer.Option("--origin", help="Say where each value came from.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show every setting in force; secrets are masked."""
    loaded = options.of(context).loaded()
    data = shown(loaded)
    if as_json:
        output.print_json({"file": loaded.file, "settings": data, "origins": dict(loaded.origins)})
        return
    if origin:
        grid = output.Grid(("SETTING", "VALUE", "ORIGIN"), wide="VALUE")
        for path, value in _flat(data):
            grid.add(path, json.dumps(value, ensure_ascii=False), loaded.origin(path))
        grid.print()
        return
    for path, value in _flat(data):
        output.say(f"{path} = {json.dumps(value, ensure_ascii=False)}")


@app.command()
def validate(context: typer.Context, *, as_json: AsJson = False) -> None:
    """Check the settings; every problem is named at once, with where its value came from."""
    loaded = options.of(context).loaded()
    _require_workable(loaded)
    if as_json:
        output.print_json({"valid": True, "file": loaded.file})
    else:
        set_ = len(loaded.origins)
        source = f"{loaded.file}" if loaded.file else "no settings file"
        output.say(f"The settings are valid ({source}; {set_} set, the rest are defaults).")


def _require_workable(loaded: Loaded) -> None:
    """What only those who use a setting would find out. Raises `ConfigError`."""
    from ironclad.ingest.places import require_a_place_of_its_own  # noqa: PLC0415 - heavy, and only here
    from ironclad.library.naming import PathTemplate  # noqa: PLC0415 - likewise

    settings = loaded.settings
    problems = []
    try:
        if settings.output.template:
            PathTemplate(settings.output.template)
    except ConfigError as exc:
        problems.append(f"output.template: {exc.detail} ({loaded.origin('output.template')})")
    for root in settings.watch_roots:
        try:
            require_a_place_of_its_own(settings, root)
        except ConfigError as exc:
            problems.append(f"ingest.roots: {exc.detail} ({loaded.origin('ingest.roots')})")
    if problems:
        raise ConfigError("".join(f"\n  - {problem}" for problem in problems))


@app.command()
def schema() -> None:
    """Print the JSON Schema of the settings (for editors; the settings file is TOML with the same structure)."""
    output.print_json(Settings.model_json_schema())
