"""What an operator does by the keyboard, and one job in all its views."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from cockpit import Cockpit, cockpit
from staged import Staged, uuid

from ironclad.errors import DatabaseUnavailable, IllegalTransition
from ironclad_tui.screens.jobs import JobsScreen

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from ironclad_tui.source import Done


def jobs_of(driver: Cockpit) -> JobsScreen:
    screen = driver.app.screen
    assert isinstance(screen, JobsScreen)
    return screen


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


class Hesitant(Staged):
    """Its first action takes until it may go on."""

    def __init__(self) -> None:
        super().__init__("busy")
        self.go_on = threading.Event()

    def act(self, action: str, job_uuids: Sequence[UUID], **options: Any) -> Done:
        assert self.go_on.wait(60)
        return super().act(action, job_uuids, **options)

    def pause(self, pool: str | None, *, paused: bool) -> None:
        assert self.go_on.wait(60)
        super().pause(pool, paused=paused)


async def given(driver: Cockpit, *keys: str) -> None:
    """Press keys while an action takes long: nothing settles."""
    for key in keys:
        driver._send(key)
        for _ in range(3):
            await driver.pilot.pause(0)


def test_every_job_is_acted_on_however_long_the_first_one_takes() -> None:
    source = Hesitant()

    async def visit(driver: Cockpit) -> None:
        await driver.press("2")
        await given(driver, "o", "j", "o", "j", "o", "O")
        source.go_on.set()
        await driver.settle()
        first, second, third = (uuid(10_000 - number) for number in (1, 2, 3))
        assert source.acted == [
            ("hold", (first,), {}), ("hold", (second,), {}), ("hold", (third,), {}), ("release", (third,), {}),
        ]  # fmt: skip

    cockpit(source, visit)


def test_every_pool_is_paused_however_long_the_first_one_takes() -> None:
    source = Hesitant()

    async def visit(driver: Cockpit) -> None:
        await driver.press("4")
        await given(driver, "p", "j", "p", "P")
        source.go_on.set()
        await driver.settle()
        assert source.paused == [("cpu", True), ("gpu", False), (None, True)]

    cockpit(source, visit)


def test_an_action_that_the_lost_database_never_heard_of_is_not_passed_over() -> None:
    source = Staged("busy")

    async def visit(driver: Cockpit) -> None:
        await driver.press("2")
        source.error = DatabaseUnavailable("connection refused")
        await driver.press("r")
        assert "Not connected" in driver.frame()
        assert [toast for toast in driver.toasts() if "What you asked for is not tried again." in toast]

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


# --- notifications that were given up ---


def test_a_notification_that_was_given_up_is_shown_and_sent_again_after_asking() -> None:
    source = Staged("failing")

    async def visit(driver: Cockpit) -> None:
        await driver.press("5")
        frame = driver.frame()
        assert "✗ given up" in frame
        assert "[CRITICAL] The disk is almost full: HTTP 503" in frame
        await driver.press("j")  # below the part that has failed
        assert "Not delivered to pager" in driver.frame()
        assert "after 12 attempts" in driver.frame()
        assert "ironclad notify test pager" in driver.frame()
        await driver.press("r")
        assert "Send this notification again?" in driver.frame()
        await driver.press("n")
        assert source.settled == []
        await driver.press("r", "y")
        assert source.settled == [("resend", (uuid(70_002),))]
        assert driver.toasts() == ["1 notification sent again."]
        assert "HTTP 503" not in driver.frame()

    cockpit(source, visit)


def test_all_that_was_given_up_is_dismissed_after_asking_by_number() -> None:
    source = Staged("failing")

    async def visit(driver: Cockpit) -> None:
        await driver.press("5", "x")
        assert driver.toasts() == ["There is no such notification here."]  # the cursor is on a part
        await driver.press("X")
        assert "Dismiss 2 notifications?" in driver.frame()
        assert "Each is given up for good: nobody hears of it." in driver.frame()
        await driver.press("y")
        assert source.settled == [("drop", (uuid(70_002), uuid(70_001)))]
        assert "given up" not in driver.frame()
        await driver.press("x")  # there is none any more: the key does nothing
        assert len(source.settled) == 1

    cockpit(source, visit)


def test_without_any_there_are_no_keys_for_them() -> None:
    async def visit(driver: Cockpit) -> None:
        await driver.press("5")
        assert "Send again" not in driver.frame()
        await driver.press("X")
        assert "Dismiss" not in driver.frame()

    cockpit(Staged("busy"), visit)
