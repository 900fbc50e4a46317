"""The cockpit by the keyboard, on made-up installations: every screen, trouble of every kind, looks and help."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from cockpit import Cockpit, cockpit
from staged import HOSTILE, NOW, Staged
from textual.command import CommandList

from ironclad.errors import DatabaseUnavailable, SchemaMismatch
from ironclad_tui.screens.base import SCREENS
from ironclad_tui.screens.jobs import JobsScreen
from ironclad_tui.widgets.grid import Grid
from ironclad_tui.widgets.keys import Keys


def jobs_of(driver: Cockpit) -> JobsScreen:
    screen = driver.app.screen
    assert isinstance(screen, JobsScreen)
    return screen


def test_every_screen_has_its_key() -> None:
    async def visit(driver: Cockpit) -> None:
        for key, name, title in SCREENS:
            await driver.press(key)
            assert driver.app.current_mode == name
            assert f"▸ {key} {title}" in driver.frame()

    cockpit(Staged("busy"), visit)


def test_the_worst_problem_is_on_every_screen_with_the_key_that_shows_it() -> None:
    async def visit(driver: Cockpit) -> None:
        for key in ("1", "2", "9"):
            await driver.press(key)
            assert "✗ worker-gpu does not report.  [4] shows it" in driver.frame()
        await driver.press("4")
        assert "✗ missing" in driver.frame()

    cockpit(Staged("failing"), visit)


def test_all_is_well_is_said() -> None:
    async def visit(driver: Cockpit) -> None:
        assert "✓ All is well." in driver.frame()
        assert "Nothing is running." in driver.frame()

    cockpit(Staged("empty"), visit)


# --- trouble ---


def test_a_database_that_goes_away_is_a_banner_until_it_is_back() -> None:
    source = Staged("busy")

    async def visit(driver: Cockpit) -> None:
        await driver.press("2")
        source.error = DatabaseUnavailable("connection refused")
        await driver.press("ctrl+r")
        frame = driver.frame()
        assert "✗ Not connected: The database does not answer.\n connection refused" in frame
        assert "E_DATABASE" in frame
        assert "Song 3" in frame  # what was read stays on the screen
        await driver.press("3", "2", "j")
        assert "Not connected" in driver.frame()
        source.error = None
        await driver.press("ctrl+r")
        assert "Not connected" not in driver.frame()

    cockpit(source, visit)


def test_it_comes_back_by_itself() -> None:
    source = Staged("away")

    async def visit(driver: Cockpit) -> None:
        assert "Not connected" in driver.frame()
        source.error, source.kind = None, "busy"
        driver.app._last_asked = float("-inf")
        driver.app._tick()
        await driver.settle()
        assert "Not connected" not in driver.frame()
        assert "services 4/4" in driver.frame()

    cockpit(source, visit)


def test_what_needs_no_database_does_not_take_the_banner_away() -> None:
    async def visit(driver: Cockpit) -> None:
        await driver.press("9", "1")  # settings and the disk are answered
        driver.app._recovered = lambda: pytest.fail("the database has not answered")  # type: ignore[method-assign]  # spied on
        await driver.press("ctrl+r")
        assert "Not connected" in driver.frame()

    cockpit(Staged("away"), visit)


def test_a_click_on_a_key_presses_it() -> None:
    async def visit(driver: Cockpit) -> None:
        await driver.press("2")
        line = driver.frame().splitlines()[-1]
        await driver.pilot.click(Keys, offset=(line.index("Sort"), 0))
        await driver.settle()
        assert "oldest first" in driver.frame()
        await driver.pilot.click(Keys, offset=(119, 0))
        await driver.settle()
        assert "oldest first" in driver.frame()
        await driver.press("slash")
        assert "? Help" in driver.frame().splitlines()[-1]

    cockpit(Staged("busy"), visit)


def test_a_database_of_another_version_says_what_to_run() -> None:
    source = Staged("busy")
    source.error = SchemaMismatch("The database is at 0001, this version needs 0002.")

    async def visit(driver: Cockpit) -> None:
        frame = driver.frame()
        assert "Cannot read this database" in frame
        assert "at 0001, this version needs 0002" in frame
        assert "ironclad db upgrade" in frame

    cockpit(source, visit)


@pytest.mark.parametrize("size", [(20, 5), (39, 30), (100, 9), (1, 1)])
def test_a_small_terminal_gets_a_message(size: tuple[int, int]) -> None:
    async def visit(driver: Cockpit) -> None:
        if size[0] > 10:
            assert "Too small:" in driver.frame()
            assert f"{size[0]}x{size[1]}" in driver.frame()
        await driver.press("2", "j", "enter", "escape", "1")
        await driver.pilot.resize_terminal(80, 24)
        await driver.settle()
        assert "Ironclad ▸ 1 Overview" in driver.frame()

    cockpit(Staged("busy"), visit, size=size)


def test_hostile_text_is_shown_not_obeyed() -> None:
    source = Staged("failing")

    async def visit(driver: Cockpit) -> None:
        seen = ""
        for key in ("1", "2", "3", "7"):
            await driver.press(key)
            seen += driver.frame()
        await driver.press("2", "j", "j", "j", "enter", "L")
        seen += driver.frame()
        driver.app.say(HOSTILE, title=HOSTILE)
        await driver.settle()
        seen += driver.frame()
        assert not [c for c in seen if ord(c) < 32 and c != "\n"]
        assert "\u202e" not in seen
        assert "[bold]Bobby[/]" in seen

    cockpit(source, visit)


def test_a_title_of_megabytes_is_cut() -> None:
    source = Staged("busy", jobs=3)
    source.list[0] = source.list[0].__class__(
        **{**{name: getattr(source.list[0], name) for name in source.list[0].__slots__}, "name": "x" * 3_000_000}
    )  # fmt: skip

    async def visit(driver: Cockpit) -> None:
        await driver.press("2")
        cell = jobs_of(driver).grid.rows[0].cells[1]
        assert len(str(cell[0])) == 400
        await driver.press("enter")
        assert "xxxx" in driver.frame()

    cockpit(source, visit)


# --- everywhere ---


def test_help_tells_the_keys_of_the_screen() -> None:
    async def visit(driver: Cockpit) -> None:
        await driver.press("2", "question_mark")
        frame = driver.frame()
        for part in ("This screen", "Filter", "Retry", "Select", "Save this view"):
            assert part in frame
        await driver.press("G")
        assert "Pause or resume everything" in driver.frame()
        await driver.press("escape")
        assert not driver.app.screen.is_modal

    cockpit(Staged("busy"), visit)


def test_the_command_palette_finds_screens_and_actions() -> None:
    async def visit(driver: Cockpit) -> None:
        await driver.press("ctrl+p")
        await driver.type("Maintenance")
        commands = driver.app.screen.query_one(CommandList)

        def found() -> bool:  # each letter begins a search of its own, which shows parts of what it finds
            first = commands.highlighted_option
            return len(driver.app.workers) == 0 and first is not None and str(first.prompt).startswith("Maintenance")

        await driver.until(found)
        await driver.press("enter")
        await driver.until(lambda: driver.app.current_mode == "maintenance")

    cockpit(Staged("busy"), visit)


def test_read_only_is_marked() -> None:
    async def visit(driver: Cockpit) -> None:
        assert "· read-only" in driver.frame()

    cockpit(Staged("busy", read_only=True), visit)


def test_no_colour_means_no_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")

    async def visit(driver: Cockpit) -> None:
        assert driver.app.theme == "ironclad-mono"
        assert colours(driver) <= {True}

    cockpit(Staged("failing"), visit)


def colours(driver: Cockpit) -> set[bool]:
    """For each colour on the screen, whether it is grey."""
    found: set[bool] = set()
    for strip in driver.app.screen._compositor.render_strips():
        for segment in strip.apply_filter(driver.app._filters[-1], driver.app.screen.styles.background):
            for colour in (segment.style.color, segment.style.bgcolor) if segment.style else ():
                if colour is not None and colour.triplet is not None:
                    found.add(max(colour.triplet) - min(colour.triplet) <= 2)
    return found


def test_the_log_can_be_narrowed() -> None:
    async def visit(driver: Cockpit) -> None:
        await driver.press("0")
        assert "event_1" in driver.frame()
        await driver.press("v")
        assert "warning and worse" in driver.frame()
        await driver.press("s", "j", "enter")
        assert "dispatch ·" in driver.frame()

    cockpit(Staged("busy"), visit)


def test_details_follow_the_cursor() -> None:
    async def visit(driver: Cockpit) -> None:
        await driver.press("9", "j", "j")
        assert "How long size and mtime must stay the same." in driver.frame()
        assert "IRONCLAD_INGEST__STABILITY_SECONDS" in driver.frame()
        await driver.press("6", "G")
        assert "spleeter does not load" in driver.frame()
        await driver.press("5")
        assert "ironclad doctor" in driver.frame()

    cockpit(Staged("failing"), visit)


def test_enter_on_the_overview_opens_the_job() -> None:
    async def visit(driver: Cockpit) -> None:
        await driver.press("j", "enter")
        assert "▸ Job" in driver.frame()
        await driver.press("escape", "tab", "enter")
        assert "▸ Job" in driver.frame()

    cockpit(Staged("busy"), visit)


def test_wide_characters_keep_their_columns() -> None:
    async def visit(driver: Cockpit) -> None:
        await driver.press("2")
        grid = driver.app.screen.query_one(Grid)
        for y in range(grid.size.height):
            assert grid.render_line(y).cell_length == grid.size.width

    cockpit(Staged("busy"), visit, size=(80, 24))


def test_times_are_those_of_the_source() -> None:
    async def visit(driver: Cockpit) -> Any:
        await driver.press("2")
        return driver.frame()

    assert "1 min ago" in cockpit(Staged("busy"), visit)
    assert NOW.year == 2026


@pytest.mark.parametrize("key", ["enter", "5", "question_mark", "c", "P"])
def test_a_screen_that_is_opened_as_the_cockpit_ends_is_no_error(key: str) -> None:
    """Textual gives it no widgets then; which instant that is depends on the machine, so several are tried."""
    for turns in range(8):

        async def visit(driver: Cockpit, turns: int = turns) -> None:
            await driver.press("2", "j")
            driver._send(key)
            for _ in range(turns):
                await asyncio.sleep(0)
            driver.app.exit()

        cockpit(Staged("busy"), visit)
