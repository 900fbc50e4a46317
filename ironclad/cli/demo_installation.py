"""An installation of its own for the demo: `ironclad up` as a child, on a fresh data folder and free ports."""

from __future__ import annotations

import collections
import contextlib
import os
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Final, Self

from ironclad import config
from ironclad.errors import Unexpected
from ironclad.processes import signal_group

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import TracebackType

_STOP_SECONDS: Final = 45.0
_SETTINGS: Final = """\
[ingest]
stability_seconds = 1.0

[services]
base_port = 0

[prefect]
port = 0

[disk]
min_free_bytes = 200000000
"""
# The kernel stops it when we die: nothing is left running on a folder that may be gone.
_CHILD: Final = (
    "import signal\n"
    "from ironclad.processes import signal_on_parent_death\n"
    "signal_on_parent_death(signal.SIGTERM)\n"
    "from ironclad.cli.main import main\n"
    "main()\n"
)
_LAST_LINES: Final = 8
_LAST_SECONDS: Final = 10.0


class DemoInstallation:
    """A context manager: inside it `ironclad up` runs.

    Args:
        folder: where the data folder and the settings file are made.
        say: told each line that `up` prints, in a thread.
    """

    def __init__(self, folder: Path, say: Callable[[str], None]) -> None:
        self._say = say
        self._lines: collections.deque[str] = collections.deque(maxlen=40)
        self._watching = threading.Event()
        self._silent = threading.Event()
        file = folder / "ironclad.toml"
        file.write_text(_SETTINGS, encoding="utf-8")
        # The operator's own settings must not reach the demo, nor the demo the operator's installation.
        self._environment = {name: value for name, value in os.environ.items() if not name.startswith("IRONCLAD_")}
        self._environment |= {"IRONCLAD_CONFIG": str(file), "IRONCLAD_DATA_DIR": str(folder / "data")}
        self.settings = config.load(environ=self._environment)

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _CHILD, "up", "--plain"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, env=self._environment, text=True, errors="replace", process_group=0,
        )  # fmt: skip
        self._reader = threading.Thread(target=self._read, name="demo-up", daemon=True)
        self._reader.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop it cleanly, and by force if that takes too long."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.send_signal(signal.SIGTERM)  # the second one is at once
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(5)
        signal_group(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._reader.join(timeout=5)

    def _read(self) -> None:
        if self._process.stdout is None:
            return
        with self._process.stdout as stream:
            for line in stream:
                self._lines.append(line.rstrip())
                self._say(line.rstrip())
                if line.split()[1:3] == ["watch", "ready"]:
                    self._watching.set()
        self._silent.set()
        self._watching.set()

    def wait_for_watcher(self, seconds: float) -> None:
        """Until files that are dropped are seen. Raises as `check` does."""
        self._watching.wait(max(0.0, seconds))
        self.check()

    def check(self) -> None:
        """Raise `Unexpected` with its last words if it has ended."""
        if self._silent.is_set() or self._process.poll() is not None:
            self._reader.join(timeout=5)
            self._process.wait(_LAST_SECONDS)  # its output ends a moment before itself
            raise Unexpected(f"`ironclad up` ended with {self._process.returncode}: {' / '.join(self._lines)}")

    @property
    def exit_code(self) -> int | None:
        """Of `up`, once it has ended."""
        return self._process.returncode

    def log_ends(self) -> list[str]:
        """The last lines of `up` itself and of every service's log."""
        lines = ["--- ironclad up", *self._lines]
        for path in sorted(self.settings.layout.logs.glob("*.jsonl")):
            with contextlib.suppress(OSError):
                last = path.read_text(encoding="utf-8", errors="replace").splitlines()[-_LAST_LINES:]
                lines += [f"--- {path.name}", *last]
        return lines
