"""One job: why it is as it is, its stages, log, events, files and receipt; and everything that can be done to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final

from textual.binding import Binding, BindingType

from ironclad.errors import DatabaseUnavailable, IroncladError, NotFound
from ironclad_tui.jobview import SOUND, TAGS, VIEWS, art, render, sound
from ironclad_tui.screens.base import CockpitScreen
from ironclad_tui.screens.dialogs import Confirm
from ironclad_tui.text import Line, Span
from ironclad_tui.themes import MONO
from ironclad_tui.widgets.lines import Lines

if TYPE_CHECKING:
    from uuid import UUID

    from textual.app import ComposeResult

    from ironclad.audio.sketch import Sketch
    from ironclad.jobs.overview import Glance
    from ironclad.jobs.query import JobDetail
    from ironclad.metadata.raster import Raster
    from ironclad.ops.looking import LogLine

_NAMES: Final = tuple(VIEWS)


class JobScreen(CockpitScreen):
    """On top of the screen from which it was opened."""

    HEADING = "Job"
    AUTO_FOCUS = "#view"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("tab,right,l", "view(1)", "Next view", key_display="tab"),
        Binding("shift+tab,left", "view(-1)", "View before", show=False),
        Binding("w", "show_view('why')", "Why", show=False),
        Binding("L", "show_view('log')", "Log", show=False),
        Binding("e", "show_view('events')", "Events", show=False),
        Binding("f", "show_view('files')", "Files", show=False),
        Binding("i", "show_view('receipt')", "Receipt", show=False),
        Binding("a", "show_view('tags')", "Tags", show=False),
        Binding("s", "show_view('sound')", "Sound", show=False),
        Binding("r", "act('retry')", "Retry"),
        Binding("R", "replay", "Replay"),
        Binding("c", "act('cancel')", "Cancel"),
        Binding("o", "act('hold')", "Hold", show=False),
        Binding("O", "act('release')", "Release", show=False),
        Binding("b", "bundle", "Bundle"),
        Binding("y", "copy", "Copy id", show=False),
        Binding("escape,h,backspace", "back", "Back", key_display="esc"),
    ]

    def __init__(self, job_uuid: UUID) -> None:
        super().__init__()
        self.job_uuid = job_uuid
        self.view = "why"
        self.detail: JobDetail | None = None
        self.gone = False
        self._log: tuple[LogLine, ...] = ()
        self._sketched: str | None = None
        self._sketches: tuple[tuple[str, Sketch], ...] | None = None
        self._deaf = ""
        self._art: Raster | None = None
        self._art_asked = False

    def body(self) -> ComposeResult:
        """The names of the views, and one of them."""
        yield Lines(id="status")
        yield Lines(wrap=True, id="view", classes="-main")

    def furnish(self) -> None:
        """The names are no stop of the tab key."""
        super().furnish()
        self.lines("#status").can_focus = False

    def reload(self) -> None:
        """The job and its log."""
        job = self.job_uuid
        if not self.gone:
            self.ask("job", lambda: self._find(job), self._show)
            self.ask("log", lambda: self.source.job_log(job), self._logged)

    def _find(self, job: UUID) -> JobDetail | None:
        try:
            return self.source.job(job)
        except NotFound:
            return None

    def shown_glance(self, glance: Glance) -> None:
        """A running job moves without events."""
        running = any(job.job_uuid == self.job_uuid for job in glance.running)
        if running and self.is_current:
            self.reload()

    def _show(self, detail: JobDetail | None) -> None:
        if detail is None:
            self.gone = True
            self.cockpit.say(f"Job {self.job_uuid} has been deleted meanwhile.", severity="warning")
        else:
            self.detail = detail
        self._draw()

    def _logged(self, lines: tuple[LogLine, ...]) -> None:
        self._log = lines
        self._draw()

    def _draw(self) -> None:
        tabs = [Span(f"[{name}]", "mark") if name == self.view else Span(f" {name} ", "dim") for name in _NAMES]
        self.lines("#status").show([(Span(" "), *tabs)])
        view = self.lines("#view")
        if self.detail is None:
            view.show([" This job is no longer there." if self.gone else " … reading"])
            return
        lines: list[Line] = []
        if self.gone:
            lines.append((Span(" ! This job has been deleted meanwhile; this is how it was.", "warn"),))
        if self.view == SOUND:
            view.show([*lines, self._deaf] if self._deaf else [*lines, *sound(self._sketches)])
        else:
            lines += render(self.view, self.detail, self._log, self.source.now(), self.source.root)
            if self.view == TAGS and self._art is not None:
                lines += art(self._art, self.app.size.width)
            view.show(lines)

    def _listen(self) -> None:
        """Decode and measure: work, so only for who looks, and once for each state of the job."""
        job, state = self.job_uuid, None if self.detail is None else self.detail.job.state
        if self._sketched == state:
            return
        self._sketched, self._sketches, self._deaf = state, None, ""

        def made(found: tuple[tuple[str, Sketch], ...] | str) -> None:
            self._sketches, self._deaf = ((), found) if isinstance(found, str) else (found, "")
            self._draw()

        self.ask("sound", lambda: self._measured(job), made)

    def _measured(self, job: UUID) -> tuple[tuple[str, Sketch], ...] | str:
        """In the background: a file that cannot be decoded is an answer, too."""
        try:
            return self.source.sketches(job)
        except IroncladError as exc:
            if isinstance(exc, DatabaseUnavailable):
                raise
            return f" ! {exc.code}: {exc}"

    def _picture(self) -> None:
        """Decode the cover: for who looks, once, and where there are colours."""
        if self._art_asked or self.app.theme == MONO or (self.detail is not None and not self.detail.stages):
            return
        self._art_asked, job = True, self.job_uuid

        def made(found: Raster | None) -> None:
            self._art = found
            self._draw()

        self.ask("art", lambda: self._decoded(job), made)

    def _decoded(self, job: UUID) -> Raster | None:
        try:
            return self.source.art(job)
        except IroncladError as exc:
            if isinstance(exc, DatabaseUnavailable):
                raise
            return None  # what is wrong with it is said in words among the tags

    def action_view(self, step: int) -> None:
        """The next view."""
        self.action_show_view(_NAMES[(_NAMES.index(self.view) + step) % len(_NAMES)])

    def action_show_view(self, name: str) -> None:
        """A view by name."""
        self.view = name
        if name == SOUND:
            self._listen()
        elif name == TAGS:
            self._picture()
        self._draw()
        self.lines("#view").action_scroll_edge(1 if name in {"log", "events"} else -1)

    def action_act(self, action: str) -> None:
        """On this job."""
        self.cockpit.actions.start(action, [self.job_uuid])

    def action_replay(self) -> None:
        """From a stage, with an engine."""

        def chosen(engines: Any) -> None:
            self.cockpit.actions.replay([self.job_uuid], [engine.name for engine in engines if not engine.error])

        self.ask("engines", self.source.engines, chosen)

    def action_bundle(self) -> None:
        """All that is known of it in one archive."""
        job = self.job_uuid

        def answered(yes: bool | None) -> None:  # noqa: FBT001 - Textual's callback
            if yes:
                self.ask("bundle", lambda: self.source.bundle(job), self._bundled)

        details = [
            "All that is known of it goes into one archive on this machine:",
            "history, logs, settings without secrets, versions; no music.",
        ]
        self.app.push_screen(Confirm("Write the diagnostic bundle of this job?", details), answered)

    def _bundled(self, path: str) -> None:
        self.cockpit.say(f"{path} is written. Look into it before you send it.", title="Bundle")

    def action_copy(self) -> None:
        """The id, by the terminal's own clipboard (OSC 52)."""
        self.app.copy_to_clipboard(str(self.job_uuid))
        self.cockpit.say(f"Copied {self.job_uuid}.")

    def action_back(self) -> None:
        """To the screen before."""
        self.app.pop_screen()
