"""What can be done to jobs, from every screen that shows some; with confirmation, a word after, and undo."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ironclad.jobs import pipeline
from ironclad_tui.screens.dialogs import Ask, Choose, Confirm

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from uuid import UUID

    from ironclad_tui.app import IroncladApp
    from ironclad_tui.source import Done

_WORDS: Final = {
    "retry": ("Retry", "goes back to the queue", "back in the queue"),
    "cancel": ("Cancel", "is stopped; what it made so far is not published", "cancelled"),
    "hold": ("Hold", "does not start until it is released", "held"),
    "release": ("Release", "may start again", "released"),
    "replay": ("Replay", "runs again from that stage", "back in the queue"),
}
_LETTERS: Final = {
    "resend": ("Send", " again", "goes back to its channel, with all its attempts", "sent again"),
    "drop": ("Dismiss", "", "is given up for good: nobody hears of it", "dismissed"),
}
_UNDO: Final = {"hold": "release", "release": "hold", "cancel": "retry"}
_SAME: Final = "the same engine"
_BY_SETTINGS: Final = "s"


class Actions:
    """Acts on jobs for the app that shows them."""

    def __init__(self, app: IroncladApp) -> None:
        self._app = app
        self._undo: tuple[str, Callable[[], None]] | None = None

    def start(self, action: str, jobs: Sequence[UUID], **options: Any) -> None:
        """Do it, after asking where it is more than one job or cannot be taken back."""
        if not jobs:
            self._app.say("There is no job here.", severity="warning")
            return
        if len(jobs) == 1 and action not in {"cancel", "replay"}:
            self._do(action, jobs, options)
            return
        verb, effect, _ = _WORDS[action]
        what = "this job" if len(jobs) == 1 else f"{len(jobs):,} jobs"
        details = [f"Each {effect}." if len(jobs) > 1 else f"It {effect}."]
        details += [f"{name}: {value}" for name, value in options.items() if value]

        def answered(yes: bool | None) -> None:  # noqa: FBT001 - Textual's callback
            if yes:
                self._do(action, jobs, options)

        self._app.push_screen(Confirm(f"{verb} {what}?", details), answered)

    def replay(self, jobs: Sequence[UUID], engines: Sequence[str]) -> None:
        """Ask for the stage and the engine, then do it."""
        if not jobs:
            self._app.say("There is no job here.", severity="warning")
            return

        def staged(stage: str | None) -> None:
            if stage is None:
                return

            def chosen(engine: str | None) -> None:
                if engine is not None:
                    self.start("replay", jobs, stage=stage, engine=None if engine == _SAME else engine)

            names = [(_SAME, "with its parameters"), *((name, "with its default parameters") for name in engines)]
            self._app.push_screen(Choose("Engine", names), chosen)

        helps = dict.fromkeys(pipeline.STAGES, "and everything after it")
        self._app.push_screen(Choose("Replay from", list(helps.items()), chosen="separate"), staged)

    def _do(self, action: str, jobs: Sequence[UUID], options: dict[str, Any]) -> None:
        self._app.do(
            "jobs",
            lambda: self._app.source.act(action, jobs, **options),
            lambda done: self._told(action, done),
        )

    def _told(self, action: str, done: Done) -> None:
        _, _, word = _WORDS[action]
        if done.done:
            reverse = _UNDO.get(action)
            text = f"{len(done.done):,} {'job' if len(done.done) == 1 else 'jobs'} {word}."
            if reverse:
                jobs = done.done
                self.remember(f"{action} of {len(jobs):,}", lambda: self._do(reverse, jobs, {}))
                text += " [u] takes it back."
            self._app.say(text)
        if done.failed:
            _, error = done.failed[0]
            self._app.say(f"{len(done.failed):,} could not: {error}", title=error.code, severity="error")
        self._app.happened()

    def settle(self, action: str, letters: Sequence[UUID]) -> None:
        """Send notifications that were given up again, or dismiss them, after asking."""
        if not letters:
            self._app.say("There is no such notification here.", severity="warning")
            return
        verb, again, effect, word = _LETTERS[action]
        what = "this notification" if len(letters) == 1 else f"{len(letters):,} notifications"

        def told(count: int) -> None:
            self._app.say(f"{count:,} {'notification' if count == 1 else 'notifications'} {word}.")
            self._app.happened()

        def answered(yes: bool | None) -> None:  # noqa: FBT001 - Textual's callback
            if yes:
                self._app.do("letters", lambda: self._app.source.settle(action, letters), told)

        question = f"{verb} {what}{again}?"
        self._app.push_screen(Confirm(question, [f"{'It' if len(letters) == 1 else 'Each'} {effect}."]), answered)

    def remember(self, what: str, call: Callable[[], None]) -> None:
        """The next undo."""
        self._undo = (what, call)

    def undo(self) -> None:
        """Take the last action back."""
        if self._undo is None:
            self._app.say("There is nothing to take back.", severity="warning")
            return
        (what, call), self._undo = self._undo, None
        self._app.say(f"Taking back: {what}.")
        call()

    def drain(self, running: int) -> None:
        """Pause everything, and say when nothing runs any more."""
        details = [
            f"What runs ({running:,} now) is finished, and nothing new starts until [P].",
            "It is said when nothing runs any more.",
        ]

        def paused(_: None) -> None:
            self._app.draining = True
            self.remember("The pipeline is drained", lambda: self.pause(None, paused=False))
            self._app.happened()

        def answered(yes: bool | None) -> None:  # noqa: FBT001 - Textual's callback
            if yes:
                self._app.do("pause", lambda: self._app.source.pause(None, paused=True), paused)

        self._app.push_screen(Confirm("Drain the pipeline?", details), answered)

    def slots(self, pool: str, now: int) -> None:
        """Ask how many jobs a pool should run at a time, and have it so."""

        def answered(text: str | None) -> None:
            if text is None:
                return
            if text.casefold() != _BY_SETTINGS and not text.isdecimal():
                self._app.say(f"{text} is no number.", severity="warning")
                return
            self._set_slots(pool, None if text.casefold() == _BY_SETTINGS else int(text))

        title = f"Jobs at a time of pool {pool} (now {now}; {_BY_SETTINGS}: as the settings say)"
        self._app.push_screen(Ask(title, str(now)), answered)

    def _set_slots(self, pool: str, number: int | None) -> None:
        def told(before: int | None) -> None:
            how = "as many jobs at a time as the settings say" if number is None else f"{number:,} at a time"
            self.remember(f"Pool {pool} runs {how}", lambda: self._set_slots(pool, before))
            self._app.say(f"Pool {pool} runs {how}; what runs is finished. [u] takes it back.")
            self._app.happened()

        self._app.do("slots", lambda: self._app.source.set_slots(pool, number), told)

    def pause(self, pool: str | None, *, paused: bool) -> None:
        """Pause or resume a pool, or the pipeline."""
        what = "The pipeline" if pool is None else f"Pool {pool}"

        def told(_: None) -> None:
            ends = "is paused; what runs is finished." if paused else "is open."
            self.remember(f"{what} {ends}", lambda: self.pause(pool, paused=not paused))
            self._app.say(f"{what} {ends} [u] takes it back.")
            self._app.happened()

        self._app.do("pause", lambda: self._app.source.pause(pool, paused=paused), told)
