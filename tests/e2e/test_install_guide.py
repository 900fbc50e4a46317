"""The quick start, word by word: its own code blocks are run in a fresh folder, on a wheel built from this checkout.

Only the index is replaced: pip finds the wheel in a folder, and its dependencies where the tests have them.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.slow, pytest.mark.services, pytest.mark.xdist_group("services"), pytest.mark.timeout(900)
]  # fmt: skip

ROOT = Path(__file__).parents[2]
PATIENCE = 300.0
_BLOCK = re.compile(r"^(?:<!-- (\w+) -->\n)?```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)

_PYTHON = """#!/bin/sh
# Python, except that a new environment already sees the dependencies.
{python} "$@" || exit $?
if [ "$1 $2" = "-m venv" ]; then
    for packages in "$3"/lib/python*/site-packages; do echo {there} > "$packages/there.pth"; done
fi
"""


def blocks(page: str) -> list[tuple[str, str]]:
    """Each block's mark and text, in order."""
    return _BLOCK.findall((ROOT / "docs" / page).read_text(encoding="utf-8"))


@pytest.fixture
def index(tmp_path: Path) -> dict[str, str]:
    """An environment in which `pip install ironclad-audio` finds the wheel here and every dependency already there."""
    wheels = tmp_path / "wheels"
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", wheels, ROOT],
        check=True, capture_output=True, timeout=120,
    )  # fmt: skip
    there = tmp_path / "dependencies"
    there.mkdir()
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        if not entry.name.lower().startswith(("ironclad", "_ironclad", "__editable__", "pip", "setuptools")):
            (there / entry.name).symlink_to(entry)
    programs = tmp_path / "programs"
    programs.mkdir()
    python = programs / "python3"
    python.write_text(_PYTHON.format(python=f"{sys.base_prefix}/bin/python3", there=there), encoding="utf-8")
    python.chmod(0o755)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("IRONCLAD_", "PREFECT_"))}
    return {
        **environment, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels),
        "PIP_DISABLE_PIP_VERSION_CHECK": "1", "IRONCLAD_SERVICES__BASE_PORT": "0", "IRONCLAD_PREFECT__PORT": "0",
        "IRONCLAD_DISK__MIN_FREE_BYTES": "100000000", "HOME": str(tmp_path),
        "PATH": f"{programs}:{os.environ['PATH']}",
    }  # fmt: skip


class Terminal:
    """A shell that runs one block after another, as somebody who types them; its variables stay."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder, self.environment = folder, environment
        self._said = ""
        self._background: list[tuple[subprocess.Popen[bytes], Path]] = []

    def type(self, text: str) -> str:
        state = self.folder / ".state"
        keep = f"export -p > {state}; declare -p song other >> {state} 2> /dev/null; :"
        script = f"[ -e {state} ] && . {state}\nset -eu\n{text}\nset +eu\n{keep}"
        done = subprocess.run(
            ["bash", "-c", script], cwd=self.folder, env=self.environment, capture_output=True, text=True,
            stdin=subprocess.DEVNULL, timeout=PATIENCE, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}\n{self.background()}"
        return done.stdout

    def leave_running(self, text: str, until: str) -> None:
        log = self.folder / f"terminal-{len(self._background)}.log"
        with log.open("wb") as file:
            process = subprocess.Popen(
                ["bash", "-c", f". {self.folder}/.state; exec {text}"], cwd=self.folder, env=self.environment,
                stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True,
            )  # fmt: skip
        self._background.append((process, log))
        deadline = time.monotonic() + PATIENCE
        while until not in log.read_text(encoding="utf-8"):
            assert process.poll() is None, log.read_text(encoding="utf-8")
            assert time.monotonic() < deadline, log.read_text(encoding="utf-8")
            time.sleep(0.1)  # a terminal is read by looking at it

    def background(self) -> str:
        return "\n".join(log.read_text(encoding="utf-8") for _, log in self._background)

    def close(self) -> list[int]:
        codes = []
        for process, _ in self._background:
            process.send_signal(signal.SIGINT)
            try:
                codes.append(process.wait(90))
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
        return codes


def test_the_quick_start_works_as_written(tmp_path: Path, index: dict[str, str]) -> None:
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    terminal = Terminal(fresh, index)
    said = []
    try:
        for mark, text in blocks("quickstart.md"):
            assert mark in {"", "background"}
            if mark == "background":
                terminal.leave_running(text.strip(), until="Ready.")
            else:
                said.append(terminal.type(text))
    finally:
        codes = terminal.close()
    assert codes in ([0], [130])
    assert re.search(r"^ironclad \d", said[0], re.MULTILINE)
    assert "(Instrumental).flac" in said[1]
    # The song dropped into input/ may still be at work; the one waited for is in the library.
    assert re.search(r"^music/output/.*\(Instrumental\)\.\w+$", said[-1], re.MULTILINE)
    assert not list((fresh / "music/run").glob("*.json")), "every service has gone"


def test_the_guide_is_read() -> None:
    marks = [mark for mark, _ in blocks("quickstart.md")]
    assert marks.count("background") == 1
    assert len(marks) >= 6
    assert {mark for mark, _ in blocks("install.md")} == {"", "systemd"}
