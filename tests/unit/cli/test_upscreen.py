from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from ironclad.cli import output
from ironclad.cli.upscreen import LinesScreen, LiveScreen, greeting, screen_for
from ironclad.config import Settings, load
from ironclad.ops.child import UnitState
from ironclad.ops.supervisor import ServiceEvent

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def plain_settings(tmp_path: Path) -> Settings:
    return load(environ={"IRONCLAD_DATA_DIR": str(tmp_path / "data"), "IRONCLAD_PREFECT__PORT": "4201"})


def event(name: str, state: UnitState, detail: str = "", tail: tuple[str, ...] = ()) -> ServiceEvent:
    return ServiceEvent(name, state, detail, 42, 1, tail)


def test_each_change_is_a_line_and_nothing_is_said_twice(
    plain_settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    with LinesScreen(output.stdout(), plain_settings) as screen:
        screen.heard(event("watch", UnitState.STARTING))
        screen.heard(event("watch", UnitState.STARTING))
        screen.heard(event("watch", UnitState.READY, "ready at \x1b[31mhttp://x"))
    lines = [line.split(maxsplit=1)[1] for line in capsys.readouterr().out.splitlines()]
    assert lines == ["watch        starting", "watch        ready       ready at \\x1b[31mhttp://x"]


def test_what_a_service_that_died_said_last_is_shown(
    plain_settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    tail = tuple(f"line {number}\x07" for number in range(8))
    LinesScreen(output.stdout(), plain_settings).heard(event("watch", UnitState.CRASH_LOOP, "exit code 1", tail))
    shown = capsys.readouterr().out
    assert "line 2" not in shown
    assert "    | line 7\\x07" in shown


def test_when_all_is_ready_it_says_what_to_do(plain_settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    LinesScreen(output.stdout(), plain_settings).heard(event("supervisor", UnitState.READY))
    shown = capsys.readouterr().out
    assert str(plain_settings.layout.input) in shown
    assert "http://127.0.0.1:4201" in shown


def test_prefect_elsewhere_is_not_ours_to_show(tmp_path: Path) -> None:
    environ = {"IRONCLAD_DATA_DIR": str(tmp_path), "IRONCLAD_PREFECT__API_URL": "http://elsewhere/api"}
    assert len(greeting(load(environ=environ))) == 1


def test_the_live_table_shows_services_and_stays_harmless(plain_settings: Settings) -> None:
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=100, height=30, markup=True)
    with LiveScreen(console, plain_settings) as screen:
        screen.heard(event("watch", UnitState.RESTARTING, "[red]exit\x1b", ("last words\x07",)))
        screen.heard(event("supervisor", UnitState.READY))
    shown = file.getvalue()
    assert "watch" in shown
    assert "restarting" in shown
    assert "[red]exit\\x1b" in shown
    assert "last words\\x07" in shown
    assert "Ready. Drop music into" in shown
    screen._counter.join(60)
    assert not screen._counter.is_alive()


def test_paths_are_whole_on_a_narrow_terminal(plain_settings: Settings) -> None:
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=40, height=60, markup=False, soft_wrap=True)
    with LiveScreen(console, plain_settings) as screen:
        screen.heard(event("supervisor", UnitState.READY))
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\s", "", file.getvalue())
    assert re.sub(r"\s", "", f"results appear in {plain_settings.layout.output}.") in shown


def test_lines_are_for_pipes_and_for_who_asks(plain_settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(screen_for(plain_settings, plain=False), LinesScreen)
    monkeypatch.setattr(output, "stdout", lambda: Console(file=io.StringIO(), force_terminal=True, markup=False))
    assert isinstance(screen_for(plain_settings, plain=False), LiveScreen)
    assert isinstance(screen_for(plain_settings, plain=True), LinesScreen)


class _Gone(io.StringIO):
    """A terminal that was closed, or a pipe that nobody reads."""

    def write(self, _text: str) -> int:
        raise BrokenPipeError

    def flush(self) -> None:
        raise OSError(5, "Input/output error")


def test_services_outlive_the_terminal(plain_settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout", _Gone())
    console = output.stdout()
    LinesScreen(console, plain_settings).heard(event("watch", UnitState.READY))
    live = Console(file=io.StringIO(), force_terminal=True, width=80)
    with LiveScreen(live, plain_settings) as screen:
        live.file = _Gone()
        screen.heard(event("watch", UnitState.RESTARTING, "x", ("last words",)))
