"""Engines: which are installed, what they make, their models and parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from textual.binding import Binding, BindingType

from ironclad.cli.text import size
from ironclad.errors import IroncladError
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
    BINDINGS: ClassVar[list[BindingType]] = [Binding("c", "check", "Check")]

    def __init__(self) -> None:
        super().__init__()
        self._engines: dict[str, EngineView] = {}
        self._checks: dict[str, list[Line]] = {}

    def body(self) -> ComposeResult:
        """Engines above, one in detail below."""
        yield Grid(_COLUMNS, id="upper", empty="No engine is installed.")
        yield Lines(wrap=True, id="lower")

    def on_screen_resume(self) -> None:
        """Environments and models come and go, but not with jobs: asked when the screen is opened."""
        super().on_screen_resume()
        self.ask("engines", self.source.engines, self._show)

    def reload(self) -> None:
        """Only when opened."""

    def _show(self, engines: tuple[EngineView, ...]) -> None:
        self._engines = {engine.name: engine for engine in engines}
        self.query_one(Grid).set_rows([_row(engine) for engine in engines])
        self.on_grid_moved()

    def on_grid_moved(self) -> None:
        """Another engine."""
        engine = self._engines.get(self.query_one(Grid).cursor_key)
        lines = [] if engine is None else [*self._checks.get(engine.name, []), *_detail(engine)]
        self.lines("#lower").show(lines)

    def action_check(self) -> None:
        """Try the engine under the cursor: what it imports, which devices it finds, whether its models are whole."""
        engine = self._engines.get(self.query_one(Grid).cursor_key)
        if engine is None or engine.error:
            self.cockpit.say("There is no engine here that could be tried.", severity="warning")
            return
        name = engine.name
        self._checks[name] = [(Span(" … trying it, which takes some seconds", "run"),)]
        self.on_grid_moved()
        self.ask(f"check {name}", lambda: self._tried(name), lambda lines: self._checked(name, lines))

    def _tried(self, name: str) -> list[Line]:
        """In the background: what is wrong with an engine is an answer, too."""
        try:
            report = self.source.check_engine(name)
        except IroncladError as exc:
            return [(Span(f" ✗ {exc.code} ", "bad"), Span(f"{exc} {exc.hint}"))]
        private = self._engines[name].data.get("private_environment")
        packages = (
            ", ".join(f"{one} {version}" for one, version in sorted(report["packages"].items())) if private else ""
        )
        problems: list[Line] = [
            (Span(f" ✗ {one['model']}: ", "bad"), Span(str(one["error"]["detail"]))) for one in report["problems"]
        ]
        fine = Span(" ! it runs, but not all models" if problems else " ✓ it runs", "warn" if problems else "good")
        return [
            (fine, Span(f": Python {report['python']}, finds {', '.join(report['devices'])}")),
            *fields([("Packages", packages), ("Models", ", ".join(report["models"]) or "none")]),
            *problems,
        ]

    def _checked(self, name: str, lines: list[Line]) -> None:
        self._checks[name] = [*lines, ()]
        self.on_grid_moved()


def _row(engine: EngineView) -> Row:
    data = engine.data
    return Row(
        engine.name,
        (
            _state(engine), Span(engine.name, "strong"), "yes" if engine.default else "",
            engine.error or ", ".join(data.get("stems", [])), " ".join(data.get("devices", [])),
            "" if engine.error else "private" if data.get("private_environment") else "shared", _models(data),
        ),
    )  # fmt: skip


def _state(engine: EngineView) -> Span:
    """A private environment that was not built keeps an engine from running, though its plugin is loaded."""
    unbuilt = engine.data.get("private_environment") and not engine.data.get("environment")
    return Span("✗ not built", "bad") if unbuilt else state(engine.status)


def _models(data: dict[str, Any]) -> str:
    """How many are here, of how many that have weights."""
    weighty = [model for model in data.get("models", []) if model.get("stored") is not None]
    return f"{sum(model['stored'] for model in weighty)} of {len(weighty)}" if weighty else "-"


def _model(engine: EngineView, model: dict[str, Any]) -> Line:
    name, about = model["name"], f"{model['title']}, {size(model['bytes'])}, {model['licence']}"
    if model.get("stored") is None:
        return (Span(f" model {name}: ", "dim"), Span(f"{model['title']}, needs no weights, {model['licence']}"))
    if not model["stored"]:
        how = f"  ironclad models pull {engine.name} {name}"
        return (Span(f" model {name}: ", "dim"), Span("✗ not here  ", "warn"), Span(about), Span(how, "dim"))
    own = "" if model.get("official", True) else ", your own"
    return (Span(f" model {name}: ", "dim"), Span(f"✓ here{own}  ", "good"), Span(about))


def _environment(engine: EngineView) -> str:
    data = engine.data
    if not data.get("private_environment"):
        return "Ironclad's own"
    built = data.get("environment")
    if not built:
        return f"not built: ironclad engines install {engine.name}"
    return f"Python {built['python']}, {', '.join(built['devices'])}, since {str(built['installed_at'])[:10]}"


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
                ("Environment", _environment(engine)),
                ("Quality", data.get("quality", "")),
                ("Input", f"{data.get('channels')} channels, {'any rate' if rate is None else f'{rate} Hz'}"),
                ("Exact sum", "yes" if data.get("exact_sum") else "no"),
            ]
        ),
    ]
    lines += [_model(engine, model) for model in data.get("models", [])]
    lines += [
        (Span(f" {one['name']} = {one['default']}: ", "dim"), Span(str(one["help"])))
        for one in data.get("parameters", [])
    ]
    return lines
