"""What every screen has: the head with the worst problem, the banner, the keys, and questions to the source."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeVar, cast

from textual.containers import Vertical
from textual.screen import Screen

from ironclad.jobs import overview
from ironclad_tui.background import Asker
from ironclad_tui.text import Line, Span, state
from ironclad_tui.widgets.keys import Keys
from ironclad_tui.widgets.lines import Lines

if TYPE_CHECKING:
    from collections.abc import Callable

    from textual.app import ComposeResult

    from ironclad.jobs.overview import Glance
    from ironclad_tui.app import IroncladApp
    from ironclad_tui.source import Source

    T = TypeVar("T")

LEAST_WIDTH: Final = 40
LEAST_HEIGHT: Final = 10
_SEVERITY: Final = {"ok": Span("✓ ", "good"), "warn": Span("! ", "warn"), "bad": Span("✗ ", "bad")}
SCREENS: Final = (
    ("1", "overview", "Overview"),
    ("2", "jobs", "Jobs"),
    ("3", "failures", "Failures"),
    ("4", "workers", "Workers"),
    ("5", "health", "Health"),
    ("6", "engines", "Engines"),
    ("7", "library", "Library"),
    ("8", "maintenance", "Maintenance"),
    ("9", "settings", "Settings"),
    ("0", "log", "Log"),
)
"""Key, name and title of each screen."""


class CockpitScreen(Screen[None]):
    """One screen. Subclasses give `body` and `reload`."""

    HEADING: ClassVar[str] = ""
    AUTO_FOCUS: ClassVar[str | None] = "Grid, Lines.-main"

    def __init__(self) -> None:
        super().__init__()
        self._asker: Asker | None = None
        # Textual parses every style sheet twice when a screen is opened for the first time, in case a theme changed
        # meanwhile. Ours are there from the start, and this screen gets its styles when it is mounted.
        self._css_update_count = getattr(self.app, "_css_update_count", self._css_update_count)

    # --- for subclasses ---

    def body(self) -> ComposeResult:
        """The widgets between head and keys."""
        yield from ()

    def reload(self) -> None:
        """Ask for what is shown. Called when the screen appears and whenever something happened."""

    def shown_glance(self, glance: Glance) -> None:
        """The installation at a glance, anew."""

    @property
    def cockpit(self) -> IroncladApp:
        """The app."""
        return cast("IroncladApp", self.app)

    @property
    def source(self) -> Source:
        """Where everything comes from."""
        return self.cockpit.source

    def ask(self, what: str, call: Callable[[], T], then: Callable[[T], None]) -> None:
        """Ask in the background; `then` gets the answer if the screen is still there."""

        def still(value: T) -> None:
            if self.stands:
                then(value)

        if self._asker is None:
            self._asker = Asker(self.cockpit.background)
        self._asker.ask(what, call, still)

    @property
    def stands(self) -> bool:
        """Whether its widgets are there: of a screen that is closed they go first, one after the other.

        Textual says so of a widget that it takes away by `display`.
        """
        return self.is_attached and self.display

    @property
    def idle(self) -> bool:
        """Whether no answer is awaited."""
        return self._asker is None or self._asker.idle

    def lines(self, selector: str) -> Lines:
        """A widget of lines."""
        return self.query_one(selector, Lines)

    # --- the frame ---

    def compose(self) -> ComposeResult:
        """Head, banner, body, keys."""
        yield Lines(id="head")
        yield Lines(wrap=True, id="banner")
        with Vertical(id="body"):
            yield from self.body()
        yield Lines(id="tiny")
        yield Keys()

    def on_mount(self) -> None:
        """There, with its widgets: unless the cockpit is about to end, when Textual gives a screen none."""
        if self.query("#head"):
            self.furnish()

    def furnish(self) -> None:
        """See to the widgets, once. The head is never a stop of the tab key."""
        for name in ("#head", "#banner", "#tiny"):
            self.lines(name).can_focus = False
        self.draw_frame()

    def on_screen_resume(self) -> None:
        """Seen again: what is shown may be old."""
        self.draw_frame()
        self.reload()

    def on_resize(self) -> None:
        """Too small a terminal gets a message instead of a mess."""
        size = self.app.size
        tiny = size.width < LEAST_WIDTH or size.height < LEAST_HEIGHT
        self.set_class(tiny, "-tiny")
        self.set_class(size.height < 30, "-low")  # noqa: PLR2004 - 80 by 24 and smaller
        if tiny and self.query("#tiny"):
            self.lines("#tiny").show(
                ["Too small:", f"{size.width}x{size.height}.", "Make it", f"{LEAST_WIDTH}x{LEAST_HEIGHT}", "(q quits)"]
            )
        self.draw_frame()

    def draw_frame(self) -> None:
        """Head and banner as things are now."""
        if not self.is_mounted or not self.stands or not self.query("#head"):
            return
        app = self.cockpit
        place = next((f"{key} {title}" for key, _, title in SCREENS if title == self.HEADING), self.HEADING)
        room = app.size.width - len(f" Ironclad ▸ {place}")
        marks = [f" · {mark}" for mark in app.marks(room)]
        first: Line = (Span(" Ironclad ", "title"), Span(f"▸ {place}", "strong"), Span("".join(marks), "warn"))
        self.lines("#head").show([first, self._problem()])
        banner = self.lines("#banner")
        banner.show(app.banner())
        banner.display = bool(app.banner())
        if app.glance is not None:
            self.shown_glance(app.glance)

    def _problem(self) -> Line:
        glance = self.cockpit.glance
        if glance is None:
            return (Span(" … reading", "dim"),)
        problem = overview.worst(glance)
        key, title = next((key, title) for key, name, title in SCREENS if name == problem.where)
        hint = "" if problem.severity == "ok" or title == self.HEADING else f"  [{key}] shows it"
        mark = _SEVERITY[problem.severity]
        return (Span(f" {mark.text}", mark.tone), Span(problem.text, mark.tone), Span(hint, "dim"))


def fields(pairs: list[tuple[str, Any]], width: int = 12) -> list[Line]:
    """Names and values, one a line; what is empty is left out."""
    return [
        (Span(f" {name:<{width}}", "dim"), value if isinstance(value, Span) else Span(str(value)))
        for name, value in pairs
        if value not in {None, ""}
    ]


def heading(text: str) -> Line:
    """A title above some lines."""
    return (Span(f" {text}", "title"),)


def shown_state(word: str) -> Span:
    """A state with its mark."""
    return state(word)
