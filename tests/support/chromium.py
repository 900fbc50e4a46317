"""A terminal in a page of a real browser: headless Chromium by its DevTools protocol, typed into and read as text."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import subprocess
import time
import urllib.request
from typing import TYPE_CHECKING, Any, Self

from websockets.sync.client import connect

if TYPE_CHECKING:
    from pathlib import Path

PROGRAM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
    "--no-proxy-server", "--remote-debugging-port=0", "--window-size=1000,700",
)  # fmt: skip
_LOOK_SECONDS = 0.1
_START_SECONDS = 60.0
_CALL_SECONDS = 60.0
# textual-serve keeps its terminal to itself: whoever sets `fitAddon` is the object that has it.
_CATCH = """
Object.defineProperty(Object.prototype, 'fitAddon', {configurable: true, set(value) {
    window.ironcladPage = this;
    Object.defineProperty(this, 'fitAddon', {value: value, writable: true, configurable: true});
}});
"""
_SCREEN = """
(() => {
    const terminal = window.ironcladPage && window.ironcladPage.terminal;
    if (!terminal) return '';
    const buffer = terminal.buffer.active;
    return Array.from({length: terminal.rows}, (_, y) => buffer.getLine(buffer.viewportY + y))
        .map(line => line ? line.translateToString(true) : '').join('\\n');
})()
"""
_KEYS = {"Enter": ("Enter", 13, "\r"), "Escape": ("Escape", 27, ""), "Tab": ("Tab", 9, "\t")}


class Page:
    """One page with a terminal in it. A context manager.

    Args:
        folder: for the browser's profile; fresh.
        address: of the page.
    """

    def __init__(self, folder: Path, address: str) -> None:
        self._folder = folder
        self._address = address
        self._numbers = itertools.count(1)

    def __enter__(self) -> Self:
        assert PROGRAM is not None
        # A group of its own: the browser is many processes, and all of them have to go.
        self._process = subprocess.Popen(
            [PROGRAM, *FLAGS, f"--user-data-dir={self._folder}", "about:blank"], stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, start_new_session=True, env={**os.environ, "HOME": str(self._folder)},
        )  # fmt: skip
        try:
            self._socket = connect(self._target(), max_size=None, proxy=None)
            self._call("Page.enable")
            self._call("Emulation.setFocusEmulationEnabled", enabled=True)  # as if its window were in front
            self._call("Page.addScriptToEvaluateOnNewDocument", source=_CATCH)
            self._call("Page.navigate", url=self._address)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()
        self._end()

    def _end(self) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(60)

    def _target(self) -> str:
        """The address of the page's DevTools, once the browser has written down its port."""
        file, deadline = self._folder / "DevToolsActivePort", time.monotonic() + _START_SECONDS
        while True:
            assert self._process.poll() is None, "the browser ended"
            assert time.monotonic() < deadline, "the browser did not start"
            if file.exists() and (lines := file.read_text(encoding="utf-8").splitlines()):
                with urllib.request.urlopen(f"http://127.0.0.1:{lines[0]}/json/list", timeout=60) as answer:
                    pages = [one for one in json.load(answer) if one["type"] == "page"]
                if pages:
                    return str(pages[0]["webSocketDebuggerUrl"])
            time.sleep(_LOOK_SECONDS)  # another program's file: there is no event to await

    def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            answer = json.loads(self._socket.recv(timeout=_CALL_SECONDS))
            if answer.get("id") == number:
                assert "error" not in answer, answer
                return dict(answer["result"])

    def screen(self) -> str:
        """What the terminal in the page shows."""
        return str(self._call("Runtime.evaluate", expression=_SCREEN, returnByValue=True)["result"].get("value", ""))

    def type(self, text: str) -> None:
        """Type text, character by character."""
        for character in text:
            self._press(character, ord(character.upper()), character)

    def key(self, *names: str) -> None:
        """Press keys that have a name."""
        for name in names:
            self._press(*_KEYS[name])

    def click(self) -> None:
        """Click into the terminal, as one does before typing."""
        for kind in ("mousePressed", "mouseReleased"):
            self._call("Input.dispatchMouseEvent", type=kind, x=500, y=320, button="left", clickCount=1)

    def _press(self, key: str, code: int, text: str) -> None:
        for kind in ("keyDown", "keyUp"):
            typed = {"text": text} if text and kind == "keyDown" else {}
            self._call(
                "Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code, **typed,
            )  # fmt: skip

    def until(self, *texts: str, seconds: float = 60.0) -> str:
        """The screen once it shows all the texts."""
        deadline = time.monotonic() + seconds
        while True:
            shown = self.screen()
            if all(text in shown for text in texts):
                return shown
            assert time.monotonic() < deadline, f"{texts} never appeared:\n{shown}"
            time.sleep(_LOOK_SECONDS)  # a terminal is looked at: there is no event to await
