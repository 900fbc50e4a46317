"""Log: the end of the services' logs, by service and level."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final

from textual.binding import Binding, BindingType

from ironclad_tui.screens.base import CockpitScreen
from ironclad_tui.screens.dialogs import Ask
from ironclad_tui.text import Line, Span
from ironclad_tui.widgets.lines import Lines

if TYPE_CHECKING:
    from textual.app import ComposeResult

    from ironclad.jobs.overview import Glance
    from ironclad.ops.looking import LogLine

LEVELS: Final = ("debug", "info", "warning", "error")
_TONES: Final = {"error": "bad", "critical": "bad", "warning": "warn", "debug": "dim"}


class LogScreen(CockpitScreen):
    """Follows the logs."""

    HEADING = "Log"
    AUTO_FOCUS = "#log"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("s", "service", "Service"),
        Binding("v", "level", "Level"),
        Binding("slash", "job", "Job"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self.service = ""
        self.level = "info"
        self.job = ""

    def body(self) -> ComposeResult:
        """Lines, and what is shown of them."""
        yield Lines(wrap=True, id="log", follow=True, classes="-main")
        yield Lines(id="status")

    def furnish(self) -> None:
        """The status is no stop of the tab key."""
        super().furnish()
        self.lines("#status").can_focus = False

    def reload(self) -> None:
        """Ask."""
        service, level, job = self.service, self.level, self.job
        self.ask("log", lambda: self.source.log(service, level, job), self._show)

    def shown_glance(self, glance: Glance) -> None:  # noqa: ARG002 - only a clock here
        """Logs have no events of their own: they are read anew with every glance."""
        if self.is_current:
            self.reload()

    def _show(self, lines: tuple[LogLine, ...]) -> None:
        self.lines("#log").show([log_line(line) for line in lines] or [" No log lines."])
        service = self.service or "all services"
        about = f" · job {self.job}" if self.job else ""
        self.lines("#status").show([(Span(f" {service}", "strong"), Span(f" · {self.level} and worse{about}"))])

    def action_service(self) -> None:
        """Of one service, or of all."""

        def chosen(name: str) -> None:
            self.service = "" if name == "all" else name
            self.reload()

        def known(names: tuple[str, ...]) -> None:
            self.cockpit.choose("Service", [("all", ""), *((name, f"logs/{name}.jsonl") for name in names)], chosen)

        self.ask("services", self.source.log_services, known)

    def action_job(self) -> None:
        """Of one job, or of all."""

        def named(text: str | None) -> None:
            if text is not None:
                self.job = "" if text == "all" else text.casefold()
                self.reload()

        self.app.push_screen(Ask("Job (its id or the end of it; all: of every job)", self.job or "all"), named)

    def action_level(self) -> None:
        """The next level."""
        self.level = LEVELS[(LEVELS.index(self.level) + 1) % len(LEVELS)]
        self.reload()


def log_line(line: LogLine) -> Line:
    """One line of a log."""
    rest = " ".join(f"{name}={_shown(value)}" for name, value in line.rest.items())
    job = f" job={line.job_uuid[-8:]}" if line.job_uuid else ""
    return (
        Span(f" {line.at[11:19]} ", "dim"), Span(f"{line.level:<8}", _TONES.get(line.level, "")),
        Span(f"{line.service:<12.12} ", "dim"), Span(line.event, "strong"), Span(f"{job} {rest}"),
    )  # fmt: skip


def _shown(value: Any) -> str:
    """A value of a log line; of an error what tells it from others, for the rest says the same each time."""
    if isinstance(value, dict) and "code" in value:
        return f"{value['code']} ({value.get('detail') or value.get('what') or ''})"
    return str(value)
