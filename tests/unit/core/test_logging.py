"""Logs: one JSON object a line, with identity, without secrets; a job's own file never stops the work."""

from __future__ import annotations

import io
import json
import logging
import socket
from typing import TYPE_CHECKING, Any

import pytest
import structlog

from ironclad import log

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def quiet_again() -> Iterator[None]:
    """The logging of the process as it was."""
    before = (logging.root.handlers[:], logging.root.level)
    yield
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()
    logging.root.handlers[:], logging.root.level = before


@pytest.fixture
def out() -> io.StringIO:
    return io.StringIO()


def lines(out: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_a_line_is_one_json_object_with_identity(out: io.StringIO) -> None:
    log.configure(service="worker", stream=out)
    with structlog.contextvars.bound_contextvars(job_uuid="j-1", trace_id="t-1"):
        log.get(component="stage").info("stage_ended", stage="separate", seconds=1.5)
    (line,) = lines(out)
    assert line.pop("at").endswith("Z")
    assert line.pop("host") == socket.gethostname()
    assert line == {
        "service": "worker", "level": "info", "event": "stage_ended", "component": "stage", "job_uuid": "j-1",
        "trace_id": "t-1", "stage": "separate", "seconds": 1.5,
    }  # fmt: skip


def test_the_level_is_the_lowest_written(out: io.StringIO) -> None:
    log.configure(service="s", level="WARNING", stream=out)
    log.get().info("no")
    log.get().warning("yes")
    assert [line["event"] for line in lines(out)] == ["yes"]


def test_a_terminal_gets_words(out: io.StringIO) -> None:
    log.configure(service="s", human=True, stream=out)
    log.get().info("hello", password="hunter2", name="Björk")
    assert "hello" in out.getvalue()
    assert "Björk" in out.getvalue()
    assert "hunter2" not in out.getvalue()


@pytest.mark.parametrize(
    ("key", "value", "shown"),
    [
        ("password", "x", "***"),
        ("db_passwd", "x", "***"),
        ("api_key", "x", "***"),
        ("apikey", "x", "***"),
        ("Authorization", "x", "***"),
        ("secret", {"a": 1}, "***"),
        ("token", None, "***"),
        ("lease_token", "visible", "visible"),
        ("url", "postgresql://u:hunter2@h/n", "postgresql://u:***@h/n"),
        ("url", "redis://:hunter2@h/0", "redis://:***@h/0"),
        ("url", "postgresql+psycopg://u:hun%2Fter@h/n?x=a:b", "postgresql+psycopg://u:***@h/n?x=a:b"),
        ("url", "http://host/a:b@c", "http://host/a:b@c"),
        ("dsn", "host=h password=hunter2 user=u", "host=h password=*** user=u"),
        ("dsn", "host=h PASSWORD = 'two words' user=u", "host=h PASSWORD = *** user=u"),
        ("text", "a=b bypass=1", "a=b bypass=1"),
        ("text", "Bearer icl_0123456789abcdef-_x was sent", "Bearer icl_*** was sent"),
        ("nested", {"deep": [{"password": "x", "url": "a://b:c@d"}]}, {"deep": [{"password": "***", "url": "a://b:***@d"}]}),
        ("pair", ("a://b:c@d", 1), ["a://b:***@d", 1]),
        ("number", 7, 7),
    ],
)  # fmt: skip
def test_secrets_are_masked(out: io.StringIO, key: str, value: object, shown: object) -> None:
    log.configure(service="s", stream=out)
    log.get().info("e", **{key: value})
    assert lines(out)[0][key] == shown


@pytest.mark.parametrize("logger", ["ours", "a library's"])
def test_an_exception_on_a_terminal_holds_no_secret_either(out: io.StringIO, logger: str) -> None:
    log.configure(service="s", human=True, stream=out)

    def connect(url: str) -> None:
        password = url[17:24]
        raise OSError(f"cannot reach {url}, {len(password)}")

    try:
        connect("postgresql://u:xxhunter2@h/n")
    except OSError:
        (log.get().exception if logger == "ours" else logging.getLogger("library").exception)("failed")
    assert "in connect" in out.getvalue()
    assert "cannot reach postgresql://u:***@h/n" in out.getvalue()
    assert "hunter2" not in out.getvalue()


def test_an_exception_is_told_without_the_frames_variables(out: io.StringIO) -> None:
    log.configure(service="s", stream=out)

    def connect(url: str) -> None:
        raise OSError(f"cannot reach {url}")

    try:
        connect("postgresql://u:hunter2@h/n")
    except OSError:
        log.get().exception("failed")
    (line,) = lines(out)
    assert "hunter2" not in out.getvalue()
    (told,) = line["exception"]
    assert (told["exc_type"], told["exc_value"]) == ("OSError", "cannot reach postgresql://u:***@h/n")
    assert [frame["name"] for frame in told["frames"]][-1] == "connect"


def test_libraries_lines_have_the_same_form(out: io.StringIO) -> None:
    log.configure(service="s", stream=out)
    logging.getLogger("some.library").warning("cannot reach %s", "a://b:hunter2@c")
    logging.getLogger("some.library").info("chatter")
    try:
        int("broken")
    except ValueError:
        logging.getLogger("some.library").exception("oh")
    first, second = lines(out)
    assert (first["event"], first["level"], first["logger"], first["service"]) == (
        "cannot reach a://b:***@c", "warning", "some.library", "s",
    )  # fmt: skip
    assert second["exception"][0]["exc_type"] == "ValueError"


def test_a_reader_that_went_away_is_no_failure() -> None:
    class Gone(io.StringIO):
        def write(self, _text: str) -> int:
            raise BrokenPipeError

        def flush(self) -> None:
            raise ValueError("closed")

    log.configure(service="s", stream=Gone())
    log.get().warning("into the void")
    logging.getLogger("x").warning("likewise")


def test_values_of_any_type_are_written(out: io.StringIO, tmp_path: Path) -> None:
    log.configure(service="s", stream=out)
    log.get().info("e", path=tmp_path, odd="\udcff", things={1})
    assert lines(out)[0]["odd"] == "\udcff"


# --- a job's own file ------------------------------------------------------------------------------------------------


def test_a_jobs_log_grows_line_by_line(tmp_path: Path) -> None:
    path = tmp_path / "job.jsonl"
    for number in range(2):
        log.JobLog(path).write(event="stage_started", number=number, url="a://b:hunter2@c", odd="\udcff")
    first, second = (json.loads(line) for line in path.read_text().splitlines())
    assert (first["event"], first["number"], second["number"]) == ("stage_started", 0, 1)
    assert first["at"].endswith("Z")
    assert first["url"] == "a://b:***@c"


def test_a_log_that_cannot_be_written_is_told_once(tmp_path: Path, out: io.StringIO) -> None:
    log.configure(service="s", stream=out)
    path = tmp_path / "missing" / "job.jsonl"
    job_log = log.JobLog(path)
    for _ in range(3):
        job_log.write(event="e")
    (line,) = lines(out)
    assert (line["event"], line["path"], line["level"]) == ("job_log_unwritable", str(path), "warning")
