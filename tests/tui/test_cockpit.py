"""The cockpit by the keyboard, on made-up installations: every screen, every action, every kind of trouble."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from cockpit import Cockpit, cockpit
from staged import HOSTILE, NOW, Staged, row, uuid
from textual.widgets import Input

from ironclad.errors import DatabaseUnavailable, IllegalTransition, SchemaMismatch
from ironclad.jobs.listing import Sort
from ironclad_tui.messages import Changed
from ironclad_tui.prefs import Prefs
from ironclad_tui.screens.base import SCREENS
from ironclad_tui.screens.jobs import JobsScreen
from ironclad_tui.widgets.grid import Grid

if TYPE_CHECKING:
    from pathlib import Path


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


# --- the list of jobs ---


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


# --- actions ---


def test_one_job_is_retried_without_ado() -> None:
    source = Staged("busy")

    async def visit(driver: Cockpit) -> None:
        await driver.press("2", "j", "j", "r")
        assert source.acted == [("retry", (uuid(10_000 - 3),), {})]
        assert driver.toasts() == ["1 job back in the queue."]

    cockpit(source, visit)


def test_many_jobs_are_asked_about_by_number() -> None:
    source = Staged("busy")

    async def visit(driver: Cockpit) -> None:
        await driver.press("2", "space", "space", "space")
        assert "3 selected" in driver.frame()
        await driver.press("r")
        assert "Retry 3 jobs?" in driver.frame()
        await driver.press("n")
        assert source.acted == []
        await driver.press("r", "y")
        assert [len(jobs) for _, jobs, _ in source.acted] == [3]
        await driver.press("a")
        assert "selected" not in driver.frame()

    cockpit(source, visit)


def test_cancelling_says_what_will_happen_and_can_be_taken_back() -> None:
    source = Staged("busy")

    async def visit(driver: Cockpit) -> None:
        await driver.press("2", "c")
        assert "Cancel this job?" in driver.frame()
        assert "It is stopped; what it made so far is not published." in driver.frame()
        await driver.press("escape")
        assert source.acted == []
        await driver.press("c", "y", "u")
        assert [action for action, _, _ in source.acted] == ["cancel", "retry"]
        await driver.press("u")
        assert "There is nothing to take back." in driver.toasts()

    cockpit(source, visit)


def test_hold_and_release() -> None:
    source = Staged("busy")

    async def visit(driver: Cockpit) -> None:
        await driver.press("2", "o", "u", "O")
        assert [action for action, _, _ in source.acted] == ["hold", "release", "release"]

    cockpit(source, visit)


def test_replay_asks_for_stage_and_engine() -> None:
    source = Staged("busy")

    async def visit(driver: Cockpit) -> None:
        await driver.press("2", "j", "j", "enter", "R")
        assert "separate" in driver.frame()
        await driver.press("enter", "j", "enter")
        assert "engine: center" in driver.frame()
        await driver.press("y")
        await driver.press("R", "k", "enter", "enter", "y")
        await driver.press("R", "escape")
        assert [options for _, _, options in source.acted] == [
            {"stage": "separate", "engine": "center"}, {"stage": "stage", "engine": None},
        ]  # fmt: skip

    cockpit(source, visit)


def test_failures_are_retried_one_a_group_or_all() -> None:
    source = Staged("failing")

    async def visit(driver: Cockpit) -> None:
        await driver.press("3")
        frame = driver.frame()
        assert "20 ✗ E_ENGINE_DIED" in frame
        assert "What to do  It crashed or was killed" in frame
        await driver.press("r", "j", "R")
        assert "Retry 7 jobs?" in driver.frame()
        await driver.press("y", "A")
        assert "Retry 28 jobs?" in driver.frame()
        await driver.press("y")
        assert [len(jobs) for _, jobs, _ in source.acted] == [1, 7, 28]
        await driver.press("slash")
        assert driver.app.current_mode == "jobs"
        assert jobs_of(driver).wanted.text == "state:failed,quarantined error:E_NOT_AUDIO stage:validate"

    cockpit(source, visit)


def test_pools_and_the_pipeline_are_paused_and_resumed() -> None:
    source = Staged("busy")

    async def visit(driver: Cockpit) -> None:
        await driver.press("4", "p", "j", "p", "P", "u")
        assert source.paused == [("cpu", True), ("gpu", False), (None, True), (None, False)]
        assert "Pool cpu is paused; what runs is finished. [u] takes it back." in driver.toasts()

    cockpit(source, visit)


def test_an_action_that_is_refused_is_a_readable_toast() -> None:
    source = Staged("busy")

    async def visit(driver: Cockpit) -> None:
        await driver.press("2")
        source.error = IllegalTransition("Job 1 is succeeded already.")
        await driver.press("r")
        toast = driver.toasts()[-1]
        assert toast.startswith("E_ILLEGAL_TRANSITION The job cannot go")
        assert "ironclad jobs show" in toast

    cockpit(source, visit)


# --- one job ---


def test_a_failed_job_says_why_and_what_to_do() -> None:
    async def visit(driver: Cockpit) -> None:
        await driver.press("2", "j", "j", "enter")
        frame = driver.frame()
        assert "✗ failed" in frame
        assert "E_ENGINE_DIED The engine's process died." in frame
        assert "What to do  It crashed or was killed" in frame
        for key, part in (("L", "attempt_started"), ("e", "try 1"), ("f", "Nothing has been published"),
                          ("i", "no receipt"), ("a", "have not been read"), ("w", "What to do")):  # fmt: skip
            await driver.press(key)
            assert part in driver.frame(), key
        for name in ("log", "events", "files", "receipt", "tags", "sound", "why"):
            await driver.press("tab")
            assert f"[{name}]" in driver.frame()
        await driver.press("escape")
        assert "▸ 2 Jobs" in driver.frame()

    cockpit(Staged("busy"), visit)


def test_a_finished_job_shows_its_files_and_receipt() -> None:
    async def visit(driver: Cockpit) -> None:
        await driver.press("2", "j", "j", "j", "enter", "f")
        assert "01 Song 4.flac" in driver.frame()
        await driver.press("a")
        assert "track number" in driver.frame()
        assert "4  (file name)" in driver.frame()
        assert "front.jpg  image/jpeg, 600 by 600 pixels" in driver.frame()
        assert "! truncated comment: cut at 10 kB" in driver.frame()
        await driver.press("i")
        assert "loudness lufs" in driver.frame()
        assert "-14.3" in driver.frame()

    cockpit(Staged("busy"), visit)


def test_the_sound_of_a_job_is_drawn_and_compared() -> None:
    source = Staged("busy")

    async def visit(driver: Cockpit) -> None:
        await driver.press("2", "j", "j", "j", "enter", "s")
        frame = driver.frame()
        assert "3 min 07 s, 8,246,700 samples at 44100 Hz, peak" in frame
        assert "instrumental: changed most near" in frame
        assert "by -20.0 dB" in frame
        await driver.press("w", "s", "ctrl+r")
        assert source.asked.count("sketches") == 1
        await driver.press("escape", "g", "enter", "s")
        assert "Neither the original nor a published file" in driver.frame()

    cockpit(source, visit)


def test_the_id_is_copied_through_the_terminal() -> None:
    async def visit(driver: Cockpit) -> None:
        await driver.press("2", "enter", "y")
        assert driver.app.clipboard == str(uuid(10_000 - 1))

    cockpit(Staged("busy"), visit)


def test_a_job_that_is_deleted_while_open_stays_readable() -> None:
    source = Staged("busy")

    async def visit(driver: Cockpit) -> None:
        await driver.press("2", "enter")
        source.gone = {uuid(10_000 - 1)}
        await driver.press("ctrl+r")
        assert "has been deleted meanwhile" in driver.frame()
        assert "Ben Okri - Song 1" in driver.frame()
        await driver.press("escape", "2")
        assert not driver.app.trouble

    cockpit(source, visit)


def test_a_job_that_never_was_is_said_to_be_gone() -> None:
    async def visit(driver: Cockpit) -> None:
        driver.app.open_job(uuid(1))
        await driver.settle()
        assert "This job is no longer there." in driver.frame()

    cockpit(Staged("busy"), visit)


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
        await driver.pilot.pause(0.3)  # the palette searches when nobody has typed for a moment
        await driver.press("enter")
        await driver.pilot.pause(0.1)
        await driver.settle()
        assert driver.app.current_mode == "maintenance"

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
        await driver.press("6", "j")
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
