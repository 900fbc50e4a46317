"""The parts below the screens: windows over endless lists, text, columns, questions, themes, the server's door."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp.test_utils import TestClient, TestServer
from cockpit import Cockpit, cockpit
from staged import HOSTILE, Staged, row
from textual.color import Color

from ironclad.cli.options import GlobalOptions
from ironclad.errors import BadRequest, DatabaseUnavailable
from ironclad.jobs.feed import Notice
from ironclad.jobs.listing import Sort
from ironclad_tui import serve
from ironclad_tui.app import IroncladApp
from ironclad_tui.background import Asker, Doer, Listener
from ironclad_tui.messages import Changed, Failed, Fetched, Listening
from ironclad_tui.prefs import Prefs
from ironclad_tui.text import Span, bar, safe, safe_end, spark, state
from ironclad_tui.themes import THEMES
from ironclad_tui.widgets.grid import Column, Grid
from ironclad_tui.widgets.lines import wrapped
from ironclad_tui.widgets.tones import fit
from ironclad_tui.window import KEEP, PAGE, Window

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ironclad.jobs.listing import JobRow
    from ironclad_tui.screens.base import CockpitScreen


def rows(first: int, last: int) -> tuple[JobRow, ...]:
    return tuple(row(number) for number in range(first, last))


# --- the window ---


def test_a_window_grows_down_and_lets_the_top_go() -> None:
    window = Window()
    window.set_top(rows(0, 100), PAGE)
    assert window.at_top
    assert window.more_below
    first = 100
    while len(window.rows) < KEEP or window.at_top:
        assert window.key_beyond(1, Sort.NEWEST) == (row(first - 1).job_uuid,)
        window.extend(1, rows(first, first + 100), PAGE)
        first += 100
    assert len(window.rows) == KEEP
    assert window.more_above
    assert window.rows[-1] == row(first - 1)
    window.extend(1, rows(first, first + 30), PAGE)
    assert not window.more_below
    assert window.holds_edge(1)
    assert window.key_beyond(1, Sort.NEWEST) is None
    assert window.key_beyond(-1, Sort.NEWEST) == (window.rows[0].job_uuid,)


def test_a_window_grows_up_from_the_end() -> None:
    window = Window()
    window.set_end(rows(900, 1000), PAGE)
    assert (window.more_above, window.more_below) == (True, False)
    for first in range(800, 200, -100):
        window.extend(-1, rows(first, first + 100), PAGE)
    assert window.rows[0] == row(300)
    assert len(window.rows) == KEEP
    assert window.more_below
    window.extend(-1, rows(299, 300), PAGE)
    assert window.at_top


def test_a_page_that_overlaps_is_taken_once() -> None:
    window = Window()
    window.set_top(rows(0, 100), PAGE)
    window.extend(1, rows(90, 150), PAGE)
    assert window.rows == rows(0, 150)


def test_rows_are_updated_in_place_and_deleted_ones_go() -> None:
    window = Window()
    window.set_top(rows(0, 5), PAGE)
    changed = row(2, "cancelled")
    window.update([row(1).job_uuid, row(2).job_uuid], [changed])
    assert window.rows == (row(0), changed, row(3), row(4))
    assert not window.more_below


# --- text ---


@pytest.mark.parametrize(
    ("values", "width", "shown"),
    [
        ([0, 1, 8], 3, " ▁█"),
        ([0, 0], 2, "  "),
        ([1, 1000], 2, "▁█"),
        ([1, 1, 1, 1], 2, "██"),
        ([5, 0, 0], 2, "█ "),
        ([], 5, ""),
        ([1], 0, ""),
    ],
)
def test_a_sparkline_never_hides_a_value(values: list[int], width: int, shown: str) -> None:
    assert spark(values, width) == shown


def test_bars_and_cells_have_their_width() -> None:
    assert [bar(x, 4) for x in (-1, 0, 0.5, 1, 9)] == ["░░░░", "░░░░", "██░░", "████", "████"]
    assert bar(0.03125, 4) == "▏░░░"
    assert [fit("東京", w) for w in (0, 1, 2, 3, 4, 6)] == ["", "…", " …", "東…", "東京", "東京  "]
    assert fit("7", 3, right=True) == "  7"


def test_text_from_files_is_harmless_and_bounded() -> None:
    assert safe(HOSTILE) == "\\x1b[31m[bold]Bobby[/] \\u202etables\\x07"
    assert len(safe("x" * 10**6)) == 10_000
    assert safe("\ud800") == "\\ud800"
    assert safe_end("/srv/music/data", 8) == "…ic/data"
    assert safe_end("/srv", 8) == "/srv"
    assert safe_end("a\x07b", 8) == "a\\x07b"


def test_the_head_shows_what_matters_before_a_long_folder() -> None:
    source = Staged(read_only=True)
    source.label = "/very/long/way/down/to/the/folder/of/this/installation/data"

    async def look(driver: Cockpit) -> None:
        head = driver.frame().splitlines()[0]
        assert "· read-only · …" in head
        assert head.endswith("/data")

    cockpit(source, look, size=(80, 24))


def test_every_state_has_a_mark_and_a_word() -> None:
    from ironclad.jobs.states import JobState  # noqa: PLC0415 - for this alone

    texts = [state(one.value).text for one in JobState]
    assert all(text.split(" ", 1)[1] == one.value for text, one in zip(texts, JobState, strict=True))
    assert len({text[0] for text in texts}) >= len(texts) - 1  # failed and quarantined share theirs


def test_long_lines_are_broken_under_their_name() -> None:
    line = (Span("Name  ", "dim"), Span("one two three four five"))
    assert [("".join(s.text for s in part)) for part in wrapped(line, 15)] == [
        "Name  one two",
        "      three",
        "      four five",
    ]
    path = (Span("x" * 25),)
    assert ["".join(s.text for s in part) for part in wrapped(path, 10)] == ["x" * 10, " " + "x" * 9, " " + "x" * 6]
    assert wrapped((), 5) == [()]


def test_columns_give_way_by_rank() -> None:
    grid = Grid([Column("a", "A", 10), Column("b", "B"), Column("c", "C", 10, rank=1), Column("d", "D", 10, rank=2)])
    assert [(c.key, w) for _, c, w in grid.layout_columns(100)] == [("a", 10), ("b", 66), ("c", 10), ("d", 10)]
    assert [c.key for _, c, _ in grid.layout_columns(50)] == ["a", "b", "c"]
    assert [c.key for _, c, _ in grid.layout_columns(38)] == ["a", "b"]
    assert [c.key for _, c, _ in grid.layout_columns(5)] == ["a"]


# --- questions ---


class FakeBackground:
    def __init__(self) -> None:
        self.calls: list[tuple[str, Callable[[], None]]] = []

    def run(self, what: str, _call: object, _then: object, finished: Callable[[], None], *, deed: bool = False) -> None:
        del deed
        self.calls.append((what, finished))


def test_a_question_is_never_asked_twice_at_once() -> None:
    background = FakeBackground()
    asker = Asker(background)  # type: ignore[arg-type]  # only `run` is used
    for _ in range(1000):
        asker.ask("page", int, print)
    assert len(background.calls) == 1
    background.calls[0][1]()
    assert len(background.calls) == 2
    assert not asker.idle
    background.calls[1][1]()
    assert asker.idle
    assert len(background.calls) == 2


def test_deeds_of_a_line_are_all_done_one_after_the_other() -> None:
    background = FakeBackground()
    doer = Doer(background)  # type: ignore[arg-type]  # only `run` is used
    for _ in range(3):
        doer.do("jobs", int, print)
    doer.do("pause", int, print)
    assert [what for what, _ in background.calls] == ["jobs", "pause"]
    for done in range(4):
        assert not doer.idle
        background.calls[done][1]()
    assert [what for what, _ in background.calls] == ["jobs", "pause", "jobs", "jobs"]
    assert doer.idle


def test_an_answer_that_comes_after_the_end_is_dropped() -> None:
    app = IroncladApp(Staged("busy"), Prefs())
    entered, leave, finished = threading.Event(), threading.Event(), threading.Event()

    def slow() -> None:
        entered.set()
        leave.wait(60)

    async def visit() -> None:
        async with app.run_test():
            app.background.run("slow", slow, print, lambda: None)
            entered.wait(60)

    asyncio.run(visit())
    leave.set()
    app.background.run("next", finished.set, print, lambda: None)
    for _ in range(3):  # every thread still works
        app.background.run("next", finished.set, print, lambda: None)
    assert finished.wait(60)


@pytest.mark.parametrize(("keys", "closed_by"), [("2", None), ("2j", "escape")])
def test_a_screen_whose_widgets_have_gone_gets_no_answers(
    keys: str, closed_by: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A screen that is taken away loses its widgets first; what comes in between finds nothing to be shown in."""
    late: list[Fetched | Failed] = []
    came: list[int] = []
    errors: list[Exception] = []

    def deliver(screen: CockpitScreen) -> None:
        app = screen.cockpit
        for message in late:
            if isinstance(message, Fetched):
                app.on_fetched(message)
            else:
                app.on_failed(message)
        app.happened()
        app._tick()

    def unmounted(screen: CockpitScreen) -> None:
        assert screen.is_attached
        assert not screen.query("#head")
        try:
            deliver(screen)
        except Exception as exc:  # noqa: BLE001 - raised here, it would keep the screen's task from ever ending
            errors.append(exc)
        came.append(len(late))

    async def visit(driver: Cockpit) -> None:
        await driver.press(*keys, *(["enter"] if closed_by else []))

        def run(what: str, call: Callable[[], Any], then: Any, finished: Any, *, deed: bool = False) -> None:
            late.append(Fetched(then, call(), finished))
            late.append(Failed(what, DatabaseUnavailable("gone"), lambda: None, deed=deed))

        monkeypatch.setattr(driver.app.background, "run", run)
        driver.app.happened()
        monkeypatch.setattr(type(driver.app.screen), "on_unmount", unmounted, raising=False)
        if closed_by:
            await driver.app.pop_screen()

    cockpit(Staged("busy"), visit)
    assert not errors
    assert came
    assert came[0] >= 4


def test_many_events_are_few_messages() -> None:
    class App:
        def __init__(self) -> None:
            self.posted: list[Any] = []

        def post_message(self, message: Any) -> None:
            self.posted.append(message)

    clock = iter(x / 1000 for x in range(100_000))

    def listen(_: threading.Event) -> Iterator[Notice | None]:
        yield Notice("connected", {})
        for _number in range(1000):
            yield Notice("ironclad_event", {})
        for _number in range(300):
            yield None

    app = App()
    listener = Listener(app, listen, lambda: next(clock))  # type: ignore[arg-type]  # only post_message is used
    listener._work()
    assert isinstance(app.posted[0], Listening)
    changed = [message for message in app.posted if isinstance(message, Changed)]
    assert len(changed) <= 6
    assert sum(message.events for message in changed) == 1001


# --- looks ---


def contrast(one: Color, other: Color) -> float:
    """WCAG 2.1 contrast ratio, 1 to 21."""

    def luminance(colour: Color) -> float:
        parts = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in colour.normalized]
        return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", [theme.name for theme in THEMES])
def test_everything_can_be_read_in_every_look(theme: str) -> None:
    least = 7.0 if theme in {"ironclad-contrast", "ironclad-mono"} else 4.5

    async def visit(driver: Cockpit) -> None:
        driver.app.choose_theme(theme)
        for key in ("1", "2", "3", "0"):  # behind a dialog, text is dimmed on purpose
            await driver.press(key)
            for strip in driver.app.screen._compositor.render_strips():
                for segment in strip:
                    style = segment.style
                    if style and segment.text.strip(" ░│┌┐└┘─") and style.color and style.bgcolor:
                        ratio = contrast(Color.from_rich_color(style.color), Color.from_rich_color(style.bgcolor))
                        assert ratio >= least, (segment.text, style, ratio)

    cockpit(Staged("failing"), visit)


# --- the browser's door ---


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", ("127.0.0.1", 9660)), ("10.0.0.1:80", ("10.0.0.1", 80)), (":8000", ("127.0.0.1", 8000)),
        ("box", ("box", 9660)), ("[::1]:8000", ("::1", 8000)), ("[::1]", ("::1", 9660)),
    ],
)  # fmt: skip
def test_addresses(text: str, wanted: tuple[str, int]) -> None:
    assert serve.address(text) == wanted


@pytest.mark.parametrize("text", ["box:http", "box:99999", "box:-1"])
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(BadRequest, match="no HOST:PORT"):
        serve.address(text)


def test_others_need_a_token() -> None:
    for host in ("127.0.0.1", "127.9.9.9", "::1", "localhost"):
        serve.check(host, None)
    for host in ("0.0.0.0", "::", "192.168.1.5", "box"):  # noqa: S104 - refused, not bound
        with pytest.raises(BadRequest, match="set a token"):
            serve.check(host, None)
        serve.check(host, "t" * 16)
    with pytest.raises(BadRequest, match="fewer than 16"):
        serve.check("127.0.0.1", "short")


def test_a_visitor_gets_this_very_program(tmp_path: Any) -> None:
    command = serve.command(GlobalOptions(tmp_path / "a b", tmp_path / "c.toml"), read_only=True)
    assert command.endswith(f"--data-dir '{tmp_path}/a b' --config {tmp_path}/c.toml tui --read-only")


def test_the_door_opens_to_the_token_only() -> None:
    async def visit() -> None:
        app = await serve.TokenServer("true", "10.0.0.1", 9660, "t" * 20)._make_app()
        async with TestClient(TestServer(app)) as client:
            for path in ("/", "/ws", "/static/js/textual.js", "/?token=wrong"):
                assert (await client.get(path)).status == 401, path
            answer = await client.get("/?token=" + "t" * 20, allow_redirects=False)
            assert answer.status == 302
            assert "HttpOnly" in answer.headers["Set-Cookie"]
            page = await client.get("/")
            assert page.status == 200
            assert "Ironclad" in await page.text()
            assert (await client.get("/", headers={"Origin": "http://evil.example"})).status == 403

    asyncio.run(visit())


def test_without_a_token_only_loopback_names_are_answered() -> None:
    async def visit() -> None:
        app = await serve.TokenServer("true", "127.0.0.1", 9660, None)._make_app()
        async with TestClient(TestServer(app)) as client:
            page = await client.get("/")
            assert page.status == 200
            assert "style-src 'self'" in page.headers["Content-Security-Policy"]  # no font of another server's
            assert (await client.get("/", headers={"Host": "evil.example"})).status == 403
            assert (await client.get("/ws", headers={"Origin": "http://evil.example"})).status == 403

    asyncio.run(visit())
