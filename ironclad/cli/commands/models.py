"""`ironclad models`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from ironclad.cli import exits, options, output, text
from ironclad.cli.named import named
from ironclad.engines.models import ModelStore, check
from ironclad.engines.registry import installed_engines
from ironclad.errors import LicenceNotAccepted, NotFound

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ironclad.engines.contract import EngineSpec, ModelSpec
    from ironclad.layout import Layout

app = typer.Typer(rich_markup_mode=None, add_completion=False, no_args_is_help=True)

_STORED: Final = {
    "engine": "Its engine.",
    "model": "Its name, for --model.",
    "folder": "Where it is.",
    "licence": "What it may be used for.",
    "licence_accepted_at": "When that was accepted.",
    "origin": "Where it came from.",
    "imported_at": "When.",
    "official": "Whether its files are the ones that the plugin declares.",
    "bytes": "Size of its files.",
    "files": "Each with path, size, sha256.",
    "converted": "Other forms of the same weights, made by `models convert`; likewise.",
}
JSON: Final = {
    "models list": {
        "models": "Each with engine, model, title, licence, quality, stems, bytes, digest, default, stored, official.",
    },
    "models pull": _STORED,
    "models import": _STORED,
    "models convert": _STORED,
    "models verify": {
        "models": "Each that is in the store, with engine, model, problems (empty: every byte is as pinned).",
    },
    "models remove": {"engine": "Its engine.", "model": "Its name.", "removed": "Whether it was there."},
    "models licences": {"models": "Each with engine, model, licence, accepted_at (null: not yet)."},
}

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Engine = Annotated[str, typer.Argument(metavar="ENGINE", help="The engine.")]
Model = Annotated[str, typer.Argument(metavar="MODEL", help="The model.")]
MaybeEngine = Annotated[str | None, typer.Argument(metavar="ENGINE", help="Of this engine only.")]
Accept = Annotated[bool, typer.Option("--accept-licence", help="The model's licence was read and is accepted.")]


@app.callback()
def models() -> None:
    """Get, check and remove models; show their licences."""


def _specs(layout: Layout, engine: str | None) -> list[EngineSpec]:
    registry = installed_engines()
    store = ModelStore(layout)
    return [store.effective(spec) for spec in ([registry.get(engine)] if engine else registry)]


def _weighty(layout: Layout, engine: str | None) -> Iterator[tuple[EngineSpec, ModelSpec]]:
    for spec in _specs(layout, engine):
        for model in spec.models:
            if model.files:
                yield spec, model


@app.command("list")
def list_models(context: typer.Context, engine: MaybeEngine = None, *, as_json: AsJson = False) -> None:
    """List the models of the engines, and which of them are in the store."""
    layout = options.of(context).settings().layout
    store = ModelStore(layout)
    found: list[dict[str, Any]] = []
    for spec, model in _weighty(layout, engine):
        stored = store.get(spec.name, model.name)
        found.append(
            {
                "engine": spec.name, "model": model.name, "title": model.title, "licence": model.licence,
                "quality": model.quality, "stems": list(spec.stems_of(model.name)),
                "bytes": sum(file.size for file in model.files), "digest": model.digest,
                "default": model.name == spec.models[0].name, "stored": stored is not None,
                "official": None if stored is None else stored.official,
            }
        )  # fmt: skip
    if as_json:
        output.print_json({"models": found})
        return
    grid = output.Grid(
        ("ENGINE", "MODEL", "DEFAULT", "STORED", "SIZE", "STEMS", "TITLE"), right=frozenset({"SIZE"}), wide="TITLE"
    )
    for one in found:
        title = f"{one['title']}; {one['quality']}" if one["quality"] else one["title"]
        stored_as = "no" if not one["stored"] else "yes" if one["official"] else "yes, your own"
        grid.add(
            one["engine"], one["model"], "yes" if one["default"] else None, stored_as, text.size(one["bytes"]),
            " ".join(one["stems"]), title,
        )  # fmt: skip
    grid.print()


@app.command()
def pull(
    context: typer.Context, engine: Engine, model: Model, *, accept_licence: Accept = False, as_json: AsJson = False
) -> None:
    """Download a model from where its engine says; goes on where it stopped; nothing but the pinned files is taken."""
    from ironclad.engines import sources  # noqa: PLC0415 - imports httpx

    layout = options.of(context).settings().layout
    spec = installed_engines().get(engine)
    chosen = spec.model(model)
    accepted = _accepted(layout, spec, chosen.licence, chosen.name, accept_licence=accept_licence)
    store = ModelStore(layout)
    with store.downloads(spec.name, chosen.name) as scratch:
        for file in chosen.files:
            output.remark(f"{file.path} ({text.size(file.size)})")
            sources.download(file, scratch / Path(file.path).name)
        stored = store.add(
            spec, chosen.name, [(file.path, scratch / Path(file.path).name) for file in chosen.files],
            origin=", ".join(file.sources[0] for file in chosen.files), accept_licence=accepted,
        )  # fmt: skip
    _say_stored(stored.to_dict(), as_json=as_json)


@app.command("import")
def import_model(
    context: typer.Context,
    engine: Engine,
    model: Model,
    path: Annotated[
        Path, typer.Argument(parser=named, metavar="PATH", help="A file, a folder, a zip, a wheel or a tar.")
    ],
    *,
    accept_licence: Accept = False,
    pin: Annotated[
        bool, typer.Option("--pin", help="Trust these files although they are not the published ones.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Bring a model from files, for machines without a network and for models of your own."""
    from ironclad.engines import sources  # noqa: PLC0415 - imports httpx

    layout = options.of(context).settings().layout
    spec = installed_engines().get(engine)
    declared = next((one for one in spec.models if one.name == model), None)
    licence = declared.licence if declared is not None else "your own model"
    accepted = _accepted(layout, spec, licence, model, accept_licence=accept_licence)
    with sources.gathered(path, declared, layout.models) as found:
        stored = ModelStore(layout).add(
            spec, model, found, origin=str(path.absolute()), accept_licence=accepted, pin=pin
        )
    _say_stored(stored.to_dict(), as_json=as_json)


@app.command("convert")
def convert_model(context: typer.Context, engine: Engine, model: Model, *, as_json: AsJson = False) -> None:
    """Make the forms of a model that the engine's other runtimes read, as ONNX, from its verified weights; once."""
    from ironclad.engines import convert  # noqa: PLC0415 - a command of its own

    layout = options.of(context).settings().layout
    stored = convert.convert(
        layout, installed_engines().get(engine), model, say=lambda line: output.remark(line) if line else None
    )
    if as_json:
        output.print_json(stored.to_dict())
        return
    size = sum(file.size for file in stored.converted)
    output.say(f"{engine}/{model} has {len(stored.converted)} converted files: {text.size(size)}.")


@app.command()
def verify(context: typer.Context, engine: MaybeEngine = None, model: Annotated[
    str | None, typer.Argument(metavar="MODEL", help="This model only.")
] = None, *, as_json: AsJson = False) -> None:  # fmt: skip
    """Read every byte of the models in the store and compare with what is pinned."""
    layout = options.of(context).settings().layout
    store = ModelStore(layout)
    names = [engine] if engine else sorted(path.name for path in layout.models.glob("[a-z0-9]*") if path.is_dir())
    stored = [one for name in names for one in store.models(name) if model in {None, one.name}]
    if not stored and model is not None:
        raise NotFound(f"{engine}/{model} is not in the store")
    found = [{"engine": one.engine, "model": one.name, "problems": check(one)} for one in stored]
    if as_json:
        output.print_json({"models": found})
    else:
        grid = output.Grid(("ENGINE", "MODEL", "STATE", "PROBLEMS"), states="STATE", wide="PROBLEMS")
        for one in found:
            grid.add(one["engine"], one["model"], "broken" if one["problems"] else "ok", "; ".join(one["problems"]))
        grid.print()
    if any(one["problems"] for one in found):
        raise typer.Exit(exits.FAILED)


@app.command()
def remove(context: typer.Context, engine: Engine, model: Model, *, as_json: AsJson = False) -> None:
    """Remove a model from the store."""
    layout = options.of(context).settings().layout
    store = ModelStore(layout)
    if any(Path(name).name != name or name.startswith(".") for name in (engine, model)):
        raise NotFound(f"{engine}/{model} is not in the store")
    removed = store.remove(engine, model)
    if as_json:
        output.print_json({"engine": engine, "model": model, "removed": removed})
    else:
        output.say(f"{engine}/{model} is removed." if removed else f"{engine}/{model} was not in the store.")


@app.command()
def licences(context: typer.Context, engine: MaybeEngine = None, *, as_json: AsJson = False) -> None:
    """Show what each model may be used for, and whether that was accepted here."""
    layout = options.of(context).settings().layout
    store = ModelStore(layout)
    found: list[dict[str, Any]] = []
    for spec, model in _weighty(layout, engine):
        stored = store.get(spec.name, model.name)
        accepted = None if stored is None else stored.licence_accepted_at
        found.append({"engine": spec.name, "model": model.name, "licence": model.licence, "accepted_at": accepted})
    if as_json:
        output.print_json({"models": found})
        return
    grid = output.Grid(("ENGINE", "MODEL", "ACCEPTED", "LICENCE"), wide="LICENCE")
    for one in found:
        grid.add(one["engine"], one["model"], one["accepted_at"], one["licence"])
    grid.print()


def _accepted(layout: Layout, spec: EngineSpec, licence: str, model: str, *, accept_licence: bool) -> bool:
    """Whether the licence is accepted: by the option, before, or by the answer on a terminal.

    Raises `LicenceNotAccepted` before anything is fetched.
    """
    before = ModelStore(layout).get(spec.name, model)
    if accept_licence or (before is not None and before.licence == licence):
        return True
    if sys.stdin.isatty() and sys.stderr.isatty():
        output.remark(f"Licence of {spec.name}/{model}: {licence}")
        if typer.confirm("Do you accept it?", err=True):
            return True
    raise LicenceNotAccepted(f"{spec.name}/{model}: {licence}", engine=spec.name, model=model)


def _say_stored(stored: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        output.print_json(stored)
        return
    output.say(f"{stored['engine']}/{stored['model']} is in the store: {text.size(stored['bytes'])}.")
