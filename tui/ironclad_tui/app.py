"""The cockpit: modes for the screens, one glance for all of them, and what to do when the database goes away."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, TypeVar, cast

from textual import events
from textual.app import App, SystemCommand
from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.widgets import Input

from ironclad.errors import DatabaseUnavailable, IroncladError, SchemaMismatch
from ironclad_tui.actions import Actions
from ironclad_tui.background import Asker, Background, Doer, Listener
from ironclad_tui.replay import RecordedSource
from ironclad_tui.screens.base import SCREENS, CockpitScreen
from ironclad_tui.screens.dialogs import Choose, Help
from ironclad_tui.screens.engines import EnginesScreen
from ironclad_tui.screens.failures import FailuresScreen
from ironclad_tui.screens.health import HealthScreen
from ironclad_tui.screens.job import JobScreen
from ironclad_tui.screens.jobs import JobsScreen
from ironclad_tui.screens.library import LibraryScreen
from ironclad_tui.screens.log import LogScreen
from ironclad_tui.screens.maintenance import MaintenanceScreen
from ironclad_tui.screens.overview import OverviewScreen
from ironclad_tui.screens.settings import SettingsScreen
from ironclad_tui.screens.workers import WorkersScreen
from ironclad_tui.text import Line, Span, safe, safe_end
from ironclad_tui.themes import MONO, THEMES
from ironclad_tui.widgets.grid import Grid
from ironclad_tui.widgets.lines import Lines

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from uuid import UUID

    from textual.screen import Screen

    from ironclad.jobs.overview import Glance
    from ironclad_tui.messages import Changed, Failed, Fetched, Listening
    from ironclad_tui.prefs import Prefs
    from ironclad_tui.source import Source

    T = TypeVar("T")

_IDLE_SECONDS: Final = 5.0
_LEAST_SECONDS: Final = 0.5
_RETRY_SECONDS: Final = 1.0
_TICK_SECONDS: Final = 0.5


class IroncladApp(App[None]):
    """The operator's cockpit.

    Args:
        source: what is looked at.
        prefs: what the operator chose.
    """

    TITLE = "Ironclad"
    CSS_PATH = Path(__file__).parent / "styles" / "app.tcss"
    ENABLE_COMMAND_PALETTE = True
    DEFAULT_MODE = "overview"
    MODES: ClassVar[dict[str, Callable[[], Screen[Any]]]] = {  # type: ignore[assignment]  # narrower than Textual's, on purpose
        "overview": OverviewScreen, "jobs": JobsScreen, "failures": FailuresScreen, "workers": WorkersScreen,
        "health": HealthScreen, "engines": EnginesScreen, "library": LibraryScreen,
        "maintenance": MaintenanceScreen, "settings": SettingsScreen, "log": LogScreen,
    }  # fmt: skip
    BINDINGS: ClassVar[list[BindingType]] = [
        *(Binding(key, f"show('{name}')", title, show=False) for key, name, title in SCREENS),
        Binding("question_mark,f1", "help", "Help", key_display="?"),
        Binding("colon,ctrl+p", "command_palette", "Commands", show=False),
        Binding("P", "pause_pipeline", "Pause or resume everything", show=False),
        Binding("u", "undo", "Take back", show=False),
        Binding("t", "next_theme", "Next theme", show=False),
        Binding("ctrl+r,f5", "reload", "Read anew", show=False),
        Binding("ctrl+l", "redraw", "Draw anew", show=False),
        Binding("left", "step(-1)", "Event before", show=False, priority=True),
        Binding("right", "step(1)", "Next event", show=False, priority=True),
        Binding("shift+left", "step(-1, True)", "Minute before", show=False, priority=True),
        Binding("shift+right", "step(1, True)", "Next minute", show=False, priority=True),
        Binding("q", "quit", "Quit"),
    ]

    def __init__(self, source: Source, prefs: Prefs) -> None:
        super().__init__()
        self.source = source
        self.prefs = prefs
        self.glance: Glance | None = None
        self.trouble: IroncladError | None = None
        self.actions = Actions(self)
        self.background = Background(self)
        self._asker = Asker(self.background)
        self._doer = Doer(self.background)
        self._listener = Listener(self, source.listen)
        self.draining = False
        """Whether somebody here waits until nothing runs."""
        self._changed = False
        self._last_asked = float("-inf")
        self.animation_level = "none"
        for theme in THEMES:
            self.register_theme(theme)
        self.theme = prefs.theme if prefs.theme in self.available_themes else THEMES[0].name
        if self.no_color:
            self.theme = MONO

    def on_mount(self) -> None:
        """Begin to listen and to look."""
        self._listener.start()
        self.set_interval(_TICK_SECONDS, self._tick)
        self._look()

    def on_unmount(self) -> None:
        """Stop listening."""
        self._listener.stop()

    # --- questions and answers ---

    def ask(self, what: str, call: Callable[[], T], then: Callable[[T], None]) -> None:
        """Ask in the background, whatever screen is shown."""
        self._asker.ask(what, call, then)

    def do(self, line: str, call: Callable[[], T], then: Callable[[T], None]) -> None:
        """Have something changed in the background, after what was asked for before in the same line."""
        self._doer.do(line, call, then)

    def on_fetched(self, message: Fetched) -> None:
        """An answer, unless the cockpit ends: then its widgets go one after the other while answers still come."""
        if self.is_running:
            message.then(message.value)
            message.finished()

    def on_failed(self, message: Failed) -> None:
        """No answer: the banner says so when it is the database, a toast else."""
        if not self.is_running:
            return
        message.finished()
        error = message.error
        if isinstance(error, DatabaseUnavailable | SchemaMismatch):
            if type(error) is not type(self.trouble):
                self.trouble = error
                self._frame()
            if message.deed:  # the banner's "It is tried again by itself" is about looking
                self.say(f"{error} What you asked for is not tried again.", title=error.code, severity="error")
            return
        self.say(f"{error} {error.hint}", title=error.code, severity="error")

    def _recovered(self) -> None:
        """The database answers again; other answers (of the disk, of services) say nothing about it."""
        if self.trouble is not None:
            self.trouble = None
            self._frame()
            self._reload_screen()

    @property
    def settled(self) -> bool:
        """Whether every question has its answer."""
        screens = [screen for screen in self.screen_stack if isinstance(screen, CockpitScreen)]
        idle = self._asker.idle and self._doer.idle and all(screen.idle for screen in screens)
        return idle and self.glance is not None

    # --- what happens ---

    def on_changed(self, _: Changed) -> None:
        """Something happened: look, unless that was just done."""
        self._changed = True
        if self._now() - self._last_asked >= _LEAST_SECONDS:
            self.happened()

    def on_listening(self, message: Listening) -> None:
        """The feed is back: things were missed."""
        if message.connected:
            self.happened()

    def happened(self) -> None:
        """Look at everything that is on the screen."""
        if not self.is_running:
            return
        self._changed = False
        self._look()
        self._reload_screen()

    def _tick(self) -> None:
        if not self.is_running:
            return
        self._fit_terminal()
        waited = self._now() - self._last_asked
        if self.trouble is not None:
            if waited >= _RETRY_SECONDS:
                self._look()
        elif self._changed and waited >= _LEAST_SECONDS:
            self.happened()
        elif waited >= _IDLE_SECONDS:
            self._look()

    def _fit_terminal(self) -> None:
        """Notice another size without its signal, which multiplexers and serial lines lose now and then."""
        if self.is_headless or self.is_web:
            return
        with contextlib.suppress(OSError, ValueError, AttributeError):  # no terminal, or it is closed
            now = Size(*os.get_terminal_size(sys.__stdout__.fileno()))  # type: ignore[union-attr] # see AttributeError
            if now != self.size and now.area:
                self.post_message(events.Resize(now, now))

    def _now(self) -> float:
        loop = self._loop
        return loop.time() if loop is not None else 0.0

    def _look(self) -> None:
        self._last_asked = self._now()
        self._asker.ask("glance", self.source.glance, self._glanced)

    def _glanced(self, glance: Glance) -> None:
        self.glance = glance
        if self.draining and not (glance.paused and glance.running):
            self.draining = False
            if glance.paused:
                self.say("Nothing runs and nothing starts. [P] opens the pipeline again.", title="Drained")
        self._frame()
        self._recovered()

    def _frame(self) -> None:
        for screen in self.screen_stack:
            if isinstance(screen, CockpitScreen):
                screen.draw_frame()

    def _reload_screen(self) -> None:
        for screen in self.screen_stack[-2:]:
            if isinstance(screen, CockpitScreen) and screen.stands:
                screen.reload()

    # --- words ---

    def marks(self, room: int) -> list[str]:
        """What is special about this cockpit, for the head: in `room` columns, ` · ` before each.

        Of a long name the end is kept, which tells one data folder from another.
        """
        found = ["read-only"] if self.source.read_only else []
        if self.draining and self.glance is not None:
            found.append(f"draining, {len(self.glance.running):,} still run")
        left = min(60, room - sum(3 + len(mark) for mark in found) - 3)
        return [*found, safe_end(self.source.label, max(8, left))]

    def banner(self) -> list[Line]:
        """What keeps the cockpit from seeing anything; empty if nothing does."""
        if self.trouble is None:
            return []
        what = "Not connected" if isinstance(self.trouble, DatabaseUnavailable) else "Cannot read this database"
        return [
            (Span(f" ✗ {what}: ", "bad"), Span(self.trouble.what(), "strong")),
            *([(Span(f" {self.trouble.detail}"),)] if self.trouble.detail else []),
            (Span(f" {self.trouble.code}: {self.trouble.hint}"), Span(" It is tried again by itself.", "dim")),
        ]

    def say(
        self, text: str, *, title: str = "", severity: Literal["information", "warning", "error"] = "information"
    ) -> None:
        """A toast; never read as markup."""
        self.notify(safe(text, 600), title=safe(title, 60), severity=severity, markup=False)

    # --- actions ---

    def action_show(self, name: str) -> None:
        """Another screen."""
        if self.screen.is_modal:
            return
        self.switch_mode(name)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """The arrow keys move through time in recordings only, and never while somebody types."""
        if action == "step":
            return isinstance(self.source, RecordedSource) and not isinstance(self.focused, Input)
        return super().check_action(action, parameters)

    def action_step(self, steps: int, minutes: bool = False) -> None:  # noqa: FBT001, FBT002 - an action's arguments
        """Another moment of the recording."""
        if isinstance(self.source, RecordedSource):
            self.source.step(steps, minutes=minutes)
            self.happened()

    def open_job(self, job_uuid: UUID) -> None:
        """One job on top of whatever is shown."""
        self.push_screen(JobScreen(job_uuid))

    async def find_jobs(self) -> None:
        """The list of jobs with its filter open; until it is, no other key is looked at."""
        await self.switch_mode("jobs")
        if isinstance(self.screen, JobsScreen):
            self.screen.action_filter()

    def list_jobs(self, text: str) -> None:
        """The list of jobs with a filter. Raises `FilterError`."""
        self.switch_mode("jobs")

        def show() -> None:
            screen = self.screen
            if isinstance(screen, JobsScreen):
                screen.use_filter(text)

        self.call_after_refresh(show)

    def action_help(self) -> None:
        """The keys that do something now."""
        if self.screen.is_modal:
            return
        here: list[tuple[str, str]] = []
        everywhere: list[tuple[str, str]] = []
        own = {binding.action for binding in Binding.make_bindings(type(self.screen).BINDINGS)}
        for node, binding, enabled, _ in self.screen.active_bindings.values():
            if enabled and binding.description and not binding.system and not isinstance(node, Grid | Lines):
                target = here if node is self.screen and binding.action in own else everywhere
                target.append((self.get_key_display(binding), binding.description))
        tables = [
            (self.get_key_display(binding), binding.description)
            for binding in Binding.make_bindings(Grid.BINDINGS)
            if binding.description
        ]
        groups = [("This screen", here), ("Tables", tables), ("Everywhere", everywhere)]
        self.push_screen(Help([(title, _together(keys)) for title, keys in groups if keys]))

    def action_undo(self) -> None:
        """Take the last action back."""
        self.actions.undo()

    def action_pause_pipeline(self) -> None:
        """Pause or resume everything."""
        if self.glance is not None:
            self.actions.pause(None, paused=not self.glance.paused)

    def action_drain(self) -> None:
        """Finish what runs and start nothing."""
        running = 0 if self.glance is None else len(self.glance.running)
        self.actions.drain(running)

    def action_next_theme(self) -> None:
        """Step through the looks."""
        names = [theme.name for theme in THEMES]
        index = names.index(self.theme) + 1 if self.theme in names else 0
        self.choose_theme(names[index % len(names)])

    def choose_theme(self, name: str) -> None:
        """Use a look, and keep it."""
        self.theme = name
        self.prefs.theme = name
        with contextlib.suppress(OSError):
            self.prefs.save()

    def action_reload(self) -> None:
        """Look anew."""
        self.happened()

    def action_redraw(self) -> None:
        """The terminal shows rubbish: draw it all again."""
        self.refresh(layout=True, repaint=True)

    def get_system_commands(self, screen: Screen[Any]) -> Iterable[SystemCommand]:
        """What the command palette offers."""
        for key, name, title in SCREENS:
            yield SystemCommand(title, f"Screen {key}", lambda name=name: self.action_show(name))
        for theme in THEMES:
            yield SystemCommand(f"Theme {theme.name}", "Look", lambda n=theme.name: self.choose_theme(n))
        yield SystemCommand("Pause or resume the pipeline", "Nothing new starts", self.action_pause_pipeline)
        yield SystemCommand("Help", "The keys", self.action_help)
        for node, binding, enabled, _ in screen.active_bindings.values():
            if enabled and binding.description and not binding.action.startswith("show("):
                key = self.get_key_display(binding)
                call = cast("Callable[[], Any]", lambda a=binding.action, n=node: self.run_action(a, n))
                yield SystemCommand(binding.description, f"Key {key}", call)

    def choose(self, title: str, options: list[tuple[str, str]], then: Callable[[str], None]) -> None:
        """Ask for one of a list."""

        def chosen(name: str | None) -> None:
            if name is not None:
                then(name)

        self.push_screen(Choose(title, options), chosen)


def _together(keys: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Keys that do the same in one line."""
    found: dict[str, list[str]] = {}
    for key, text in keys:
        names = found.setdefault(text, [])
        if key not in names:
            names.append(key)
    return [(" ".join(names), text) for text, names in found.items()]
