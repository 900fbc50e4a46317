"""Engines: which are installed, what they make, their models and parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ironclad.cli.text import size
from ironclad_tui.screens.base import CockpitScreen, fields, heading
from ironclad_tui.text import Line, Span, state
from ironclad_tui.widgets.grid import Column, Grid, Row
from ironclad_tui.widgets.lines import Lines

if TYPE_CHECKING:
    from textual.app import ComposeResult

    from ironclad_tui.source import EngineView

_COLUMNS = (
    Column("state", "State", 12),
    Column("name", "Engine", 14),
    Column("default", "Default", 7, rank=1),
    Column("stems", "Stems"),
    Column("devices", "Devices", 10, rank=2),
    Column("environment", "Environment", 11, rank=3),
    Column("models", "Models", 6, right=True, rank=4),
)


class EnginesScreen(CockpitScreen):
    """Engines and plugins that bring them."""

    HEADING = "Engines"
    AUTO_FOCUS = "Grid"

    def __init__(self) -> None:
        super().__init__()
        self._engines: dict[str, EngineView] = {}

    def body(self) -> ComposeResult:
        """Engines above, one in detail below."""
        yield Grid(_COLUMNS, id="upper", empty="No engine is installed.")
        yield Lines(wrap=True, id="lower")

    def reload(self) -> None:
        """They change with installations only: asked once."""
        if not self._engines:
            self.ask("engines", self.source.engines, self._show)

    def _show(self, engines: tuple[EngineView, ...]) -> None:
        self._engines = {engine.name: engine for engine in engines}
        self.query_one(Grid).set_rows([_row(engine) for engine in engines])
        self.on_grid_moved()

    def on_grid_moved(self) -> None:
        """Another engine."""
        engine = self._engines.get(self.query_one(Grid).cursor_key)
        self.lines("#lower").show([] if engine is None else _detail(engine))


def _row(engine: EngineView) -> Row:
    data = engine.data
    return Row(
        engine.name,
        (
            state(engine.status), Span(engine.name, "strong"), "yes" if engine.default else "",
            engine.error or ", ".join(data.get("stems", [])), " ".join(data.get("devices", [])),
            "" if engine.error else "private" if data.get("private_environment") else "shared",
            str(len(data.get("models", []))),
        ),
    )  # fmt: skip


def _detail(engine: EngineView) -> list[Line]:
    if engine.error:
        return [heading(f"{engine.name} does not load"), (Span(f" {engine.error}", "bad"),)]
    data = engine.data
    rate = data.get("sample_rate")
    lines = [
        heading(f"{data.get('title', engine.name)} {data.get('version', '')}"),
        *fields(
            [
                ("Plugin", engine.plugin),
                ("Quality", data.get("quality", "")),
                ("Input", f"{data.get('channels')} channels, {'any rate' if rate is None else f'{rate} Hz'}"),
                ("Exact sum", "yes" if data.get("exact_sum") else "no"),
            ]
        ),
    ]
    lines += [
        (
            Span(f" model {model['name']}: ", "dim"),
            Span(f"{model['title']}, {size(model['bytes'])}, {model['licence']}"),
        )
        for model in data.get("models", [])
    ]
    lines += [
        (Span(f" {one['name']} = {one['default']}: ", "dim"), Span(str(one["help"])))
        for one in data.get("parameters", [])
    ]
    return lines
