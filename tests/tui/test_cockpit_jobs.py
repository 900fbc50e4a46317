"""The list of jobs by the keyboard: pages, filter, orders, columns, views, jumps, the mouse."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from cockpit import Cockpit, cockpit
from staged import Staged, row, uuid
from textual.widgets import Input

from ironclad.jobs.listing import Sort
from ironclad_tui.messages import Changed
from ironclad_tui.prefs import Prefs
from ironclad_tui.screens.jobs import JobsScreen

if TYPE_CHECKING:
    from pathlib import Path


def jobs_of(driver: Cockpit) -> JobsScreen:
    screen = driver.app.screen
    assert isinstance(screen, JobsScreen)
    return screen


def test_the_list_reads_pages_as_the_cursor_goes() -> None:
    source = Staged("busy", jobs=2000)

    async def visit(driver: Cockpit) -> None:
        await driver.press("2")
        grid = jobs_of(driver).grid
        assert len(grid.rows) == 100
        assert "2,000 jobs" in driver.frame()
        for _ in range(30):
            await driver.press("pagedown")
        assert 100 < len(grid.rows) <= 600
        assert grid.cursor_key == source.list[30 * (grid.size.height - 1)].job_uuid
        await driver.press("G")
        assert grid.cursor_key == source.list[-1].job_uuid
        await driver.press("pageup", "pageup", "pageup", "pageup")
        assert len(grid.rows) == 200
        await driver.press("g")
        assert grid.cursor_key == source.list[0].job_uuid

    cockpit(source, visit)


def test_the_cursor_stays_on_its_job_when_new_ones_come() -> None:
    source = Staged("busy", jobs=50)

    async def visit(driver: Cockpit) -> None:
        await driver.press("2", "j", "j", "j")
        grid = jobs_of(driver).grid
        before = grid.cursor_key
        source.list.insert(0, row(0))
        driver.app.post_message(Changed(1))
        await driver.press("ctrl+r")
        assert grid.rows[0].key == source.list[0].job_uuid
        assert grid.cursor_key == before

    cockpit(source, visit)


def test_far_from_the_top_only_visible_rows_are_read_anew() -> None:
    source = Staged("busy", jobs=2000)

    async def visit(driver: Cockpit) -> None:
        await driver.press("2", "G")
        source.asked.clear()
        source.list = [
            one if one.job_uuid != source.list[-1].job_uuid else row(2000, "cancelled") for one in source.list
        ]
        source.gone = {source.list[-3].job_uuid}
        before = len(jobs_of(driver).grid.rows)
        await driver.press("ctrl+r")
        assert "rows" in source.asked
        assert "jobs" not in source.asked
        assert "⊘ cancelled" in driver.frame()
        assert len(jobs_of(driver).grid.rows) == before - 1

    cockpit(source, visit)


def test_a_filter_is_typed_corrected_used_and_cleared() -> None:
    async def visit(driver: Cockpit) -> None:
        await driver.press("2", "slash")
        await driver.type("stat:failed")
        frame = driver.frame()
        assert "Did you mean state?" in frame
        pointer = next(line for line in frame.splitlines() if line.strip() == "^")
        assert pointer == " ^"
        await driver.press("enter")
        assert jobs_of(driver).wanted.text == ""
        jobs_of(driver).query_one("#filter", Input).value = "state:failed user:ben"
        await driver.press("enter")
        grid = jobs_of(driver).grid
        assert grid.has_focus
        assert grid.rows
        assert all("✗ failed" in str(one.cells[0]) for one in grid.rows)
        assert "filter state:failed user:ben" in driver.frame()
        await driver.press("escape")
        assert len(grid.rows) == 100

    cockpit(Staged("busy"), visit)


def test_what_is_typed_after_the_slash_is_the_filter_however_fast() -> None:
    async def visit(driver: Cockpit) -> None:
        await driver.press("2")
        await driver.type("/state:failed user:ana/")
        assert jobs_of(driver).query_one("#filter", Input).value == "state:failed user:ana/"
        assert jobs_of(driver).sort is Sort.NEWEST
        await driver.press("backspace", "enter")
        assert jobs_of(driver).wanted.text == "state:failed user:ana"

    cockpit(Staged("busy"), visit)


def test_what_is_typed_after_the_slash_of_the_overview_is_the_filter_too() -> None:
    async def visit(driver: Cockpit) -> None:
        await driver.press("1")
        await driver.type("/quiet paths")  # each letter of it is a key that does something to jobs, or ends the cockpit
        assert jobs_of(driver).query_one("#filter", Input).value == "quiet paths"
        await driver.press("enter")
        assert jobs_of(driver).wanted.text == "quiet paths"

    cockpit(Staged("busy"), visit)


def test_a_filter_that_finds_nothing_says_so() -> None:
    async def visit(driver: Cockpit) -> None:
        await driver.press("2", "slash")
        await driver.type("nothing like this")
        await driver.press("enter")
        assert "No job matches the filter." in driver.frame()
        await driver.press("enter", "r")
        assert driver.toasts() == ["There is no job here."]

    cockpit(Staged("busy"), visit)


def test_every_order_can_be_had() -> None:
    async def visit(driver: Cockpit) -> None:
        await driver.press("2")
        for sort in (*list(Sort)[1:], Sort.NEWEST):
            await driver.press("s")
            assert jobs_of(driver).sort is sort
            assert f"{sort.value} first" in driver.frame()

    cockpit(Staged("busy"), visit)


def test_columns_views_and_theme_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "state" / "tui.json"

    async def choose(driver: Cockpit) -> None:
        await driver.press("2", "C", "j", "enter")
        assert " Stage " not in driver.frame()
        await driver.press("v", "j", "enter")
        assert jobs_of(driver).wanted.text == "state:running"
        await driver.press("V")
        await driver.type("mine")
        await driver.press("enter", "t")

    cockpit(Staged("busy"), choose, prefs=Prefs.load(path))
    kept = json.loads(path.read_text())
    assert kept["views"] == {"mine": "state:running"}
    assert "stage" not in kept["columns"]
    assert kept["theme"] == "ironclad-light"

    async def again(driver: Cockpit) -> None:
        assert driver.app.theme == "ironclad-light"
        await driver.press("2")
        assert " Stage " not in driver.frame()
        await driver.press("v")
        assert "mine" in driver.frame()

    cockpit(Staged("busy"), again, prefs=Prefs.load(path))


@pytest.mark.parametrize("content", ["", "[]", "{", '{"columns": 3, "views": 7}', '{"columns": null}'])
def test_broken_preferences_are_as_good_as_none(tmp_path: Path, content: str) -> None:
    path = tmp_path / "tui.json"
    path.write_text(content)
    prefs = Prefs.load(path)
    assert (prefs.theme, prefs.columns, prefs.views) == ("", (), {})


def test_a_letter_jumps_to_its_row() -> None:
    async def visit(driver: Cockpit) -> None:
        await driver.press("2", "apostrophe")
        assert "\nc " in driver.frame()
        await driver.press("c")
        assert jobs_of(driver).grid.cursor_key == uuid(10_000 - 3)
        assert not driver.app.screen.is_modal
        await driver.press("apostrophe", "escape", "j")
        assert jobs_of(driver).grid.cursor_key == uuid(10_000 - 4)

    cockpit(Staged("busy"), visit)


def test_the_mouse_works_too() -> None:
    async def visit(driver: Cockpit) -> None:
        await driver.press("2")
        grid = jobs_of(driver).grid
        await driver.pilot.click(grid, offset=(5, 4))
        await driver.settle()
        assert grid.cursor_key == uuid(10_000 - 4)
        await driver.pilot.click(grid, offset=(5, 4), times=2)
        await driver.settle()
        assert "▸ Job" in driver.frame()

    cockpit(Staged("busy"), visit)
