"""A program in a real terminal: tmux on a socket of its own, typed into and read as an operator would."""

from __future__ import annotations

import re
import shlex
import subprocess
import time
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_LOOK_SECONDS = 0.05
_ENDED = "ended with code"
_STEERING = re.compile(rb"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[ -/]*[0-~])")


class Tmux:
    """One program in one pane. A context manager.

    Args:
        folder: for the socket.
        command: the program.
        environment: its environment variables.
        size: columns and rows.
    """

    def __init__(
        self, folder: Path, command: Sequence[str], environment: Mapping[str, str], size: tuple[int, int] = (80, 24)
    ) -> None:
        self._socket = folder / "tmux.sock"
        self._output = folder / "tmux.output"
        self._heard = 0
        # tmux itself sometimes knows no exit code of a pane that has ended, so a shell prints it.
        self._command = f"{shlex.join(command)}; echo {_ENDED} $?; exec sleep 600"
        self._environment = dict(environment)
        self._size = size

    def _tmux(self, *arguments: str, check: bool = True) -> str:
        done = subprocess.run(
            ["tmux", "-S", str(self._socket), "-f", "/dev/null", *arguments], env=self._environment, text=True,
            capture_output=True, timeout=60, check=False,
        )  # fmt: skip
        assert not check or done.returncode == 0, done.stderr
        return done.stdout

    def __enter__(self) -> Self:
        columns, rows = map(str, self._size)
        self._tmux(
            "new-session", "-d", "-x", columns, "-y", rows, self._command, ";",
            "set-option", "-g", "status", "off",
        )  # fmt: skip
        self._output.touch()
        self._tmux("pipe-pane", f"exec cat >> {shlex.quote(str(self._output))}")
        return self

    def __exit__(self, *_: object) -> None:
        self._tmux("kill-server", check=False)

    def screen(self) -> str:
        """What the terminal shows."""
        return self._tmux("capture-pane", "-p")

    def keys(self, *keys: str) -> None:
        """Press keys by tmux's names."""
        for key in keys:
            self._heard = self._output.stat().st_size
            self._tmux("send-keys", key)

    def type(self, text: str) -> None:
        """Type text."""
        self._tmux("send-keys", "-l", text)

    def resize(self, columns: int, rows: int) -> None:
        """Another size of the window."""
        self._tmux("resize-window", "-x", str(columns), "-y", str(rows))

    def until(self, *texts: str, seconds: float = 60.0) -> str:
        """The screen once it shows all the texts, each perhaps wrapped between two words."""
        deadline = time.monotonic() + seconds
        while True:
            shown = self.screen()
            read = " ".join(shown.split())
            if all(text in shown or text in read for text in texts):
                return shown
            assert time.monotonic() < deadline, f"{texts} never appeared:\n{shown}"
            time.sleep(_LOOK_SECONDS)  # a terminal is looked at: there is no event to await

    def told(self, *texts: str, seconds: float = 60.0) -> None:
        """Wait for a message. It goes after five seconds, so it is looked for in all that came since the last key."""
        deadline = time.monotonic() + seconds
        while True:
            came = _STEERING.sub(b" ", self._output.read_bytes()[self._heard :]).decode("utf-8", "replace")
            read = " ".join(came.split())
            if all(text in read for text in texts):
                return
            assert time.monotonic() < deadline, f"{texts} were never told:\n{read[-2000:]}\n{self.screen()}"
            time.sleep(_LOOK_SECONDS)  # as above

    def ended(self, seconds: float = 60.0) -> int:
        """The exit code of the program, once it has ended."""
        return int(self.until(_ENDED, seconds=seconds).partition(_ENDED)[2].split()[0])
