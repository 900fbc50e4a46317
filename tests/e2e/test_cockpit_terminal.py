"""The cockpit in tmux and behind a browser's socket, on a whole running installation: no part is made up."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import shutil
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import aiohttp
import chromium
import pytest
from installation import Installation, until
from tmux import Tmux

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = [
    pytest.mark.services, pytest.mark.slow, pytest.mark.timeout(300), pytest.mark.xdist_group("services"),
    pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed"),
]  # fmt: skip
TUI = [sys.executable, "-m", "ironclad.cli.main", "tui"]


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    with Installation(tmp_path_factory.mktemp("up") / "data") as installation:
        yield installation


@pytest.fixture
def cockpit(up: Installation, tmp_path: Path) -> Callable[..., Tmux]:
    """`cockpit("--read-only", size=(80, 24))`: the program in a terminal."""

    def start(
        *arguments: str, size: tuple[int, int] = (80, 24), before: tuple[str, ...] = (), **environment: str
    ) -> Tmux:
        return Tmux(
            tmp_path, [*before, *TUI, *arguments],
            {
                **up.environment, "XDG_STATE_HOME": str(tmp_path), "TERM": "xterm-256color", "LANG": "C.UTF-8",
                **environment,
            },
            size,
        )  # fmt: skip

    return start


def test_a_failed_job_is_found_understood_retried_and_succeeds(
    up: Installation, cockpit: Callable[..., Tmux], make_song: Callable[..., Path], tmp_path: Path
) -> None:
    title = "Lost and found"
    with cockpit(size=(80, 24)) as terminal:
        terminal.until("Ironclad ▸ 1 Overview", "services 4/4", "cpu", "✓ All is well.")
        terminal.keys("P")
        terminal.until("The pipeline is paused")
        terminal.keys("4")
        terminal.until("‖ paused", "dispatch")

        original = taken_away(
            up, make_song(tmp_path / f"{title}.flac", title=title, artist="Ana"), tmp_path / "elsewhere"
        )
        terminal.keys("2")
        terminal.until(title, "queued", seconds=120)
        terminal.keys("P")
        terminal.told("The pipeline is open")

        terminal.until("✗ failed", "E_SOURCE_MISSING", seconds=120)
        terminal.keys("/")
        terminal.type("state:failed since:1h")
        terminal.keys("Enter")
        terminal.until("filter state:failed since:1h", "1 jobs", title)
        terminal.keys("Enter")
        terminal.until("▸ Job", "E_SOURCE_MISSING The source file is gone.", "What to do  Somebody deleted or moved it")

        original.parent.mkdir(exist_ok=True)
        shutil.move(tmp_path / "elsewhere", original)
        terminal.keys("r")
        terminal.told("1 job back in the queue.")
        terminal.until("✓ succeeded", "organize   ✓ done", seconds=120)
        terminal.keys("f")
        terminal.until("✓ published", "instrumental", f"01 - {title} (Instrumental).flac")
        terminal.keys("Escape")
        terminal.until("No job matches the filter.")
        terminal.keys("Escape")
        terminal.until(title)
        terminal.keys("q")
        assert terminal.ended() == 0


def taken_away(up: Installation, song: Path, aside: Path) -> Path:
    """Drop a song into an installation that is paused, and take its original out of the archive; where that was."""

    def originals() -> list[Path]:
        waiting = {str(row.job_uuid) for row in up.rows("SELECT job_uuid FROM job WHERE state = 'queued'")}
        return [path for path in up.layout.archive.glob("*/original*") if path.parent.name in waiting]

    up.drop(song, user="ana")
    until("its file is in archive/", originals, 120)
    (original,) = originals()
    original.rename(aside)
    return original


def test_a_terminal_that_shrinks_and_grows(cockpit: Callable[..., Tmux]) -> None:
    with cockpit("--read-only", NO_COLOR="1") as terminal:
        terminal.until("· read-only", "services")
        terminal.resize(20, 5)
        terminal.until("Too small:", "20x5.")
        terminal.keys("2")
        terminal.resize(80, 24)
        terminal.until("▸ 2 Jobs")
        terminal.keys("P")
        terminal.told("E_PAUSED", "read-only")
        terminal.keys("q")
        assert terminal.ended() == 0


def test_another_size_is_noticed_without_its_signal(cockpit: Callable[..., Tmux]) -> None:
    with cockpit("--read-only", before=("env", "--block-signal=WINCH")) as terminal:
        terminal.until("· read-only", "services")
        terminal.resize(20, 5)
        terminal.until("Too small:", "20x5.")
        terminal.resize(80, 24)
        terminal.until("▸ 1 Overview", "services")
        terminal.keys("q")
        assert terminal.ended() == 0


def test_slots_are_changed_and_the_pipeline_is_drained_while_everything_runs(
    up: Installation, cockpit: Callable[..., Tmux]
) -> None:
    log = up.layout.logs / "worker-cpu.jsonl"
    with cockpit() as terminal:
        terminal.until("services 4/4")
        terminal.keys("4")
        terminal.until("Jobs at a time", "worker-cpu")
        terminal.keys("n")
        terminal.until("Jobs at a time of pool cpu")
        terminal.type("3")
        terminal.keys("Enter")
        terminal.told("Pool cpu runs 3 at a time")
        until("the worker follows", lambda: '"slots": 3' in log.read_text(encoding="utf-8"), 120)
        terminal.keys("u")
        terminal.told("as the settings say")
        terminal.keys("D")
        terminal.until("Drain the pipeline?")
        terminal.keys("y")
        terminal.told("Nothing runs and nothing starts.")
        terminal.keys("P")
        terminal.told("The pipeline is open")
        terminal.keys("q")
        assert terminal.ended() == 0
    assert json.loads(up.ironclad("slots", "cpu", "--json").stdout)["changed"] is False


def test_history_is_looked_at_in_a_terminal(up: Installation, cockpit: Callable[..., Tmux], tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    up.ironclad("tui", "--record", str(path))
    with cockpit("--replay", str(path)) as terminal:
        terminal.until("history.jsonl at 20", "read-only")
        terminal.keys("q")
        assert terminal.ended() == 0


def free_port() -> int:
    """A port below those that the kernel gives to whoever asks for any one: nobody takes it before the server does."""
    while True:
        port = 20_000 + secrets.randbelow(10_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


@contextlib.contextmanager
def served(up: Installation) -> Iterator[str]:
    """`ironclad tui --serve` on a free port; its address."""
    port = free_port()
    process = subprocess.Popen(
        [*TUI, "--serve", f"127.0.0.1:{port}"], env=up.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )

    def answers() -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return True
        return False

    try:
        until("the page is served", answers, 120)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(120)  # it waits a minute for visitors who do not go


def test_a_browser_s_socket_gets_the_cockpit(up: Installation) -> None:
    async def visit(address: str) -> None:
        async with aiohttp.ClientSession() as session:
            assert "Ironclad" in await (await session.get(address)).text()
            async with session.ws_connect(f"{address}/ws?width=80&height=24") as ws:
                await shows(ws, b"1 Overview")
                await ws.send_json(["stdin", "2"])
                await shows(ws, b"newest first")

    async def shows(ws: Any, text: bytes) -> None:
        seen = b""
        async with asyncio.timeout(120):
            while text not in seen:
                message = await ws.receive()
                if message.type is aiohttp.WSMsgType.BINARY:
                    seen += message.data

    with served(up) as address:
        asyncio.run(visit(address))


@pytest.mark.skipif(chromium.PROGRAM is None, reason="Chromium is not installed")
def test_the_same_path_in_a_real_browser(up: Installation, make_song: Callable[..., Path], tmp_path: Path) -> None:
    title = "Lost in the browser"
    up.ironclad("pause")
    song = make_song(tmp_path / f"{title}.flac", seed=3, title=title, artist="Ana")
    original = taken_away(up, song, tmp_path / "elsewhere")
    with served(up) as address, chromium.Page(tmp_path / "profile", address) as page:
        page.until("▸ 1 Overview", "The pipeline is paused", seconds=120)
        page.click()
        page.type("P")
        page.until("✓ open")
        page.type("2")
        page.until("✗ failed", "E_SOURCE_MISSING", seconds=120)
        page.type("/")
        page.type("state:failed since:1h")
        page.key("Enter")
        page.until("filter state:failed since:1h", "1 jobs", title)
        page.key("Enter")
        page.until("▸ Job", "E_SOURCE_MISSING", "What to do")
        original.parent.mkdir(exist_ok=True)
        shutil.move(tmp_path / "elsewhere", original)
        page.type("r")
        page.until("✓ succeeded", "organize   ✓ done", seconds=120)
        page.type("q")
