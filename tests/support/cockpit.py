"""Driving the cockpit in tests: start it, wait until it has its answers, read its screen."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from textual import events
from textual.keys import _character_to_key

from ironclad_tui.app import IroncladApp
from ironclad_tui.prefs import Prefs
from ironclad_tui.screens.base import CockpitScreen

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from textual.pilot import Pilot

    from ironclad_tui.source import Source

SIZES = ((120, 36), (80, 24))
_SECONDS = 60.0
_LOOK_SECONDS = 0.02
_CALM = 3  # rounds without news: a new screen needs two to mount and to be drawn


class Patient(IroncladApp):
    """Its messages stay: a slow machine may take longer than their five seconds until somebody looks."""

    NOTIFICATION_TIMEOUT = 3600.0


class Cockpit:
    """A running cockpit under a pilot."""

    def __init__(self, app: IroncladApp, pilot: Pilot[None]) -> None:
        self.app = app
        self.pilot = pilot

    async def settle(self) -> None:
        """Wait until every question has its answer, every message is handled and all of it is drawn."""
        deadline = time.monotonic() + _SECONDS
        calm = 0
        while calm < _CALM:
            assert time.monotonic() < deadline, "the cockpit still waits for answers"
            await self.pilot.pause(0)  # until all messages that were there are handled
            app = self.app
            answered = app.settled or (app.trouble is not None and self._idle())
            screen = app.screen
            drawn = screen._compositor.root is screen and not screen._layout_required
            handled = not app.message_queue_size and not screen.message_queue_size
            calm = calm + 1 if answered and drawn and handled else 0
            if not calm:
                await asyncio.sleep(0.001)  # answers come from threads: there is no one event to await

    def _idle(self) -> bool:
        """Whether nothing is asked for any more: a late answer may bring trouble back that has passed."""
        app = self.app
        screens = (screen for screen in app.screen_stack if isinstance(screen, CockpitScreen))
        return app._asker.idle and app._doer.idle and all(screen.idle for screen in screens)

    async def until(self, holds: Callable[[], object], seconds: float = _SECONDS) -> None:
        """Let the cockpit live until something is so."""
        for _ in range(int(seconds / _LOOK_SECONDS)):
            await self.pilot.pause(_LOOK_SECONDS)
            if holds():
                return
        raise AssertionError(f"never happened; the screen:\n{self.frame()}")

    async def press(self, *keys: str) -> None:
        """Press keys, each when the one before has had its effect."""
        for key in keys:
            self._send(key)
            await self.settle()

    async def type(self, text: str) -> None:
        """Type text into whatever has the focus."""
        for character in text:
            self._send(character)
        await self.settle()

    def _send(self, key: str) -> None:
        """As a terminal's driver does: by name for keys, by character for what can be typed."""
        character = key if len(key) == 1 else _CHARACTERS.get(key)
        name = _character_to_key(key) if len(key) == 1 and not key.isalnum() else key
        event = events.Key(name, character)
        event.set_sender(self.app)
        driver = self.app._driver
        assert driver is not None
        driver.send_message(event)

    def frame(self) -> str:
        """What the screen shows, without colours."""
        strips = self.app.screen._compositor.render_strips()
        return "\n".join("".join(segment.text for segment in strip).rstrip() for strip in strips)

    def toasts(self) -> list[str]:
        """The messages that are shown."""
        return [f"{note.title} {note.message}".strip() for note in self.app._notifications]


_CHARACTERS = {"space": " ", "slash": "/", "apostrophe": "'", "question_mark": "?", "colon": ":"}


def cockpit(
    source: Source, scenario: Callable[[Cockpit], Awaitable[Any]], *, size: tuple[int, int] = (120, 36),
    prefs: Prefs | None = None,
) -> Any:  # fmt: skip
    """Run a scenario in a cockpit on `source`, headless."""

    async def run() -> Any:
        app = Patient(source, prefs or Prefs())
        async with app.run_test(size=size) as pilot:
            driver = Cockpit(app, pilot)
            await driver.settle()
            found = await scenario(driver)
        # Their connections are closed by themselves, not by the interpreter when it finds them.
        app._listener._thread.join(_SECONDS)
        app.background.close(_SECONDS)
        return found

    return asyncio.run(run())
