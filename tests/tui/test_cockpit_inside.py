"""What can be looked into and changed from inside: bundles, covers, slots, draining, engines, folders, the library."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from cockpit import Cockpit, cockpit
from staged import Staged, glance, uuid

from ironclad.errors import CorruptAudio
from ironclad.metadata.raster import Raster
from ironclad.ops.looking import LogLine
from ironclad_tui.jobview import art
from ironclad_tui.prefs import Prefs
from ironclad_tui.screens.log import log_line
from ironclad_tui.text import below

if TYPE_CHECKING:
    from uuid import UUID

    from ironclad.audio.sketch import Sketch
    from ironclad.jobs.overview import Glance


class Draining(Staged):
    """An installation whose jobs end when they are told to."""

    running = True

    def glance(self) -> Glance:
        paused = bool(self.paused) and self.paused[-1][1]
        view = replace(glance("busy"), paused=paused)
        return view if self.running else replace(view, running=())


# --- one job ---


def test_a_bundle_is_written_after_asking_and_says_where() -> None:
    source = Staged("busy")

    async def visit(driver: Cockpit) -> None:
        await driver.press("2", "j", "enter", "b")
        assert "Write the diagnostic bundle of this job?" in driver.frame()
        await driver.press("n")
        assert "bundle" not in source.asked
        await driver.press("b", "y")
        assert "bundle" in source.asked
        assert any("/srv/music/backups/ironclad-" in toast and "is written" in toast for toast in driver.toasts())

    cockpit(source, visit)


def test_the_cover_is_painted_where_there_are_colours() -> None:
    source = Staged("busy")
    succeeded = next(index for index, one in enumerate(source.jobs_shown()) if one.state == "succeeded")

    async def visit(driver: Cockpit) -> None:
        await driver.press("2", *["j"] * succeeded, "enter", "a")
        assert "▀▀▀▀" in driver.frame()
        colours = {
            segment.style.color.triplet
            for strip in driver.app.screen._compositor.render_strips()
            for segment in strip
            if "▀" in segment.text and segment.style and segment.style.color
        }
        assert (0, 1, 2) in colours

    cockpit(source, visit)
    assert source.asked.count("art") == 1


def test_without_colours_the_cover_is_said_in_words() -> None:
    source = Staged("busy")
    succeeded = next(index for index, one in enumerate(source.jobs_shown()) if one.state == "succeeded")

    async def visit(driver: Cockpit) -> None:
        await driver.press("2", *["j"] * succeeded, "enter", "a")
        assert "600 by 600 pixels" in driver.frame()
        assert "▀" not in driver.frame()

    cockpit(source, visit, prefs=Prefs(theme="ironclad-mono"))
    assert "art" not in source.asked


def test_a_cover_that_cannot_be_decoded_is_no_trouble() -> None:
    async def visit(driver: Cockpit) -> None:
        await driver.press("2", "j", "j", "enter", "a")
        assert driver.toasts() == []

    cockpit(Staged("busy"), visit)


def test_a_sound_that_cannot_be_decoded_is_said_and_not_waited_for() -> None:
    class Deaf(Staged):
        def sketches(self, job_uuid: UUID) -> tuple[tuple[str, Sketch], ...]:
            raise CorruptAudio(f"the original of {job_uuid} is a web page")

    async def visit(driver: Cockpit) -> None:
        await driver.press("2", "j", "enter", "s")
        assert "! E_CORRUPT_AUDIO" in driver.frame()
        assert "is a web page" in driver.frame()
        assert "decoding" not in driver.frame()
        await driver.press("a", "s")
        assert "is a web page" in driver.frame()

    cockpit(Deaf("busy"), visit)


def test_an_error_in_a_log_line_is_its_code_and_detail() -> None:
    error = {
        "code": "E_NOT_AUDIO",
        "what": "No audio.",
        "detail": "it is text/html",
        "hint": "Check it.",
        "context": {},
    }
    line = LogLine("2026-03-04T05:00:00Z", "info", "", "", "attempt_ended", {"error": error, "attempt": 1})
    assert "".join(span.text for span in log_line(line)).endswith("error=E_NOT_AUDIO (it is text/html) attempt=1")


def test_two_points_are_one_character() -> None:
    red, blue = b"\xff\x00\x00", b"\x00\x00\xff"
    lines = art(Raster(3, 3, red * 3 + blue * 3 + red + blue * 2), 80)
    assert lines[1][1:] == (("▀▀▀", "#ff0000/#0000ff"),)
    assert lines[2][1:] == (("▀", "#ff0000/#ff0000"), ("▀▀", "#0000ff/#0000ff"))
    assert art(Raster(3, 3, red * 9), 5) == []


def test_paths_are_shown_below_the_data_folder() -> None:
    assert below("/srv/music", "/srv/music/output/a.flac") == "output/a.flac"
    assert below("/srv/music", "/srv/musical/a.flac") == "/srv/musical/a.flac"
    assert below("", "/a") == "/a"

    async def visit(driver: Cockpit) -> None:
        await driver.press("2", "j", "enter", "f")
        assert " input/ana/" in driver.frame()
        assert "/srv/music/input" not in driver.frame()
        assert "All in /srv/music" in driver.frame()

    cockpit(Staged("busy"), visit)


# --- workers ---


def test_slots_are_changed_and_taken_back() -> None:
    source = Staged("busy")

    async def visit(driver: Cockpit) -> None:
        await driver.press("4", "n")
        assert "Jobs at a time of pool cpu (now 2;" in driver.frame()
        await driver.press("backspace")
        await driver.type("5")
        await driver.press("enter")
        assert source.slots == {"cpu": 5}
        assert any("runs 5 at a time" in toast for toast in driver.toasts())
        await driver.press("n", "backspace")
        await driver.type("s")
        await driver.press("enter")
        assert source.slots == {"cpu": None}
        await driver.press("u")
        assert source.slots == {"cpu": 5}
        await driver.press("n")
        await driver.type("x")
        await driver.press("enter")
        assert "x is no number." in driver.toasts()
        await driver.press("n", "escape")
        assert source.slots == {"cpu": 5}

    cockpit(source, visit)


def test_draining_asks_and_says_when_nothing_runs() -> None:
    source = Draining("busy")

    async def visit(driver: Cockpit) -> None:
        await driver.press("4", "D")
        assert "Drain the pipeline?" in driver.frame()
        await driver.press("n")
        assert source.paused == []
        await driver.press("D", "y")
        assert source.paused == [(None, True)]
        assert "draining, 2 still run" in driver.frame()
        assert not any("Drained" in toast for toast in driver.toasts())
        source.running = False
        await driver.press("ctrl+r")
        assert any("Drained" in toast for toast in driver.toasts())
        assert "draining" not in driver.frame().splitlines()[0]
        await driver.press("u")
        assert source.paused[-1] == (None, False)

    cockpit(source, visit)


def test_a_drain_that_somebody_ends_is_over() -> None:
    source = Draining("busy")

    async def visit(driver: Cockpit) -> None:
        await driver.press("4", "D", "y", "P")
        assert source.paused[-1] == (None, False)
        assert "draining" not in driver.frame().splitlines()[0]
        assert not any("Drained" in toast for toast in driver.toasts())

    cockpit(source, visit)


# --- engines ---


def test_engines_say_whether_their_models_and_environments_are_here() -> None:
    async def visit(driver: Cockpit) -> None:
        await driver.press("6")
        assert "1 of 2" in driver.frame()
        assert "✗ not built" in driver.frame()
        await driver.press("j")
        frame = driver.frame()
        assert "✓ here" in frame
        assert "✗ not here" in frame
        assert "ironclad models pull demucs better" in frame
        assert "Python 3.11.7, cpu, since 2026-03-01" in frame
        await driver.press("j")
        assert "not built: ironclad engines install late" in driver.frame()

    cockpit(Staged("failing"), visit)


@pytest.mark.parametrize(
    ("keys", "shown"),
    [
        ((), "✓ it runs: Python 3.11.7, finds cpu"),
        (("j",), "✗ good: weights.th is damaged"),
        (("j", "j"), "✗ E_ENGINE_ENVIRONMENT"),
        (("j", "j", "j"), ""),
    ],
)
def test_an_engine_is_tried_from_inside(keys: tuple[str, ...], shown: str) -> None:
    source = Staged("failing")

    async def visit(driver: Cockpit) -> None:
        await driver.press("6", *keys, "c")
        assert shown in driver.frame()
        await driver.press(*("k", "j") if keys else ("j", "k"))
        assert shown in driver.frame()  # it stays with its engine
        assert ("check_engine" in source.asked) is bool(shown)

    cockpit(source, visit)


# --- folders, library, log ---


@pytest.mark.parametrize(
    ("kind", "key", "parts"),
    [
        ("failing", "d", ("Pruning would delete 1 things, 52.0 MB; nothing was deleted", "older than 14 days")),
        ("failing", "o", ("1 orphans", "No job is called so.", "ironclad orphans --fix moves it")),
        ("busy", "d", ("Pruning would delete 0 things",)),
        ("busy", "o", ("Every file has its job, and every job its files",)),
    ],
)
def test_folders_are_looked_through_from_inside(kind: str, key: str, parts: tuple[str, ...]) -> None:
    async def visit(driver: Cockpit) -> None:
        await driver.press("8", key)
        for part in parts:
            assert part in driver.frame()

    cockpit(Staged(kind), visit)


def test_the_whole_library_is_linted_from_inside() -> None:
    async def visit(driver: Cockpit) -> None:
        await driver.press("7", "L")
        assert "8 files read: 1 problems" in driver.frame()
        assert "no-cover (plex)" in driver.frame()
        await driver.press("ctrl+r")
        assert "8 files read" in driver.frame()

    cockpit(Staged("failing"), visit)


def test_the_log_of_one_job() -> None:
    async def visit(driver: Cockpit) -> None:
        await driver.press("0", "slash", *["backspace"] * 3)
        await driver.type("ABC")
        await driver.press("enter")
        assert "info and worse · job abc" in driver.frame()
        assert "No log lines." in driver.frame()
        await driver.press("slash", *["backspace"] * 3)
        await driver.type("all")
        await driver.press("enter")
        assert "event_3" in driver.frame()

    cockpit(Staged("busy"), visit)


def test_a_recording_refuses_all_of_it() -> None:
    from ironclad.errors import Paused  # noqa: PLC0415 - for this alone
    from ironclad.jobs.recording import Recording  # noqa: PLC0415 - likewise
    from ironclad_tui.replay import RecordedSource  # noqa: PLC0415 - likewise

    source = RecordedSource(Recording([], []), None, "day")
    assert source.art(uuid(1)) is None
    for call in (
        lambda: source.bundle(uuid(1)), lambda: source.check_engine("center"), source.lint, source.prunable,
        source.orphans, lambda: source.set_slots("cpu", 2),
    ):  # fmt: skip
        with pytest.raises(Paused):
            call()
