from __future__ import annotations

import io
import json
import os
import sys
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from uuid import UUID

import pytest
from rich.console import Console

from ironclad.cli import output


def grid() -> output.Grid:
    made = output.Grid(("NAME", "SIZE", "STATE"), states="STATE", right=frozenset({"SIZE"}), wide="NAME")
    made.add("日本", 5, "failed")
    made.add("b\x1b[2J", None, "ok")
    return made


def test_columns_line_up_for_wide_characters_and_nothing_trails() -> None:
    assert list(grid().lines()) == ["NAME      SIZE  STATE", "日本         5  failed", "b\\x1b[2J     -  ok"]


def test_off_a_terminal_a_table_has_no_colour_and_is_never_cut(capsys: pytest.CaptureFixture[str]) -> None:
    wide = output.Grid(("A", "B"))
    wide.add("x" * 300, "y" * 300)
    wide.print()
    shown = capsys.readouterr().out
    assert "\x1b" not in shown
    assert "x" * 300 + "  " + "y" * 300 in shown


def test_on_a_terminal_states_are_coloured_and_markup_is_not_obeyed() -> None:
    made = output.Grid(("NAME", "STATE"), states="STATE")
    made.add("[red]no[/red]", "failed")
    file = io.StringIO()
    made.print(Console(file=file, force_terminal=True, width=80, color_system="standard", markup=True))
    shown = file.getvalue()
    assert "[red]no[/red]" in shown
    assert "\x1b[31mfailed" in shown


def test_no_color_is_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    file = io.StringIO()
    grid().print(Console(file=file, force_terminal=True, width=80))
    assert "\x1b[31m" not in file.getvalue()


def test_a_table_fits_a_narrow_terminal() -> None:
    made = output.Grid(("ID", "TITLE"), wide="TITLE")
    made.add("12345678", "word " * 30)
    file = io.StringIO()
    made.print(Console(file=file, force_terminal=True, width=40, color_system=None))
    assert all(len(line) <= 40 for line in file.getvalue().splitlines())
    assert "12345678" in file.getvalue()


def test_json_has_exact_times_and_plain_ids(capsys: pytest.CaptureFixture[str]) -> None:
    class Colour(Enum):
        RED = "red"

    output.print_json(
        {
            "at": datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC), "path": Path("/a"), "id": UUID(int=1),
            "state": Colour.RED, "raw": b"\xff", "text": "é\x1b",
        }
    )  # fmt: skip
    shown = capsys.readouterr().out
    assert "\x1b" not in shown
    assert json.loads(shown) == {
        "at": "2026-01-02T03:04:05.000678+00:00", "path": "/a", "id": "00000000-0000-0000-0000-000000000001",
        "state": "red", "raw": "\\xff", "text": "é\x1b",
    }  # fmt: skip


def test_what_has_no_json_form_is_a_mistake_of_ours() -> None:
    with pytest.raises(TypeError, match="object"):
        output.print_json(object())


def test_fields_leave_out_what_is_not_known(capsys: pytest.CaptureFixture[str]) -> None:
    output.fields([("name", "a\x07b"), ("album", None), ("worker", ""), ("long name", 0)])
    assert capsys.readouterr().out == "name       a\\x07b\nlong name  0\n"


def test_remarks_never_reach_the_data(capsys: pytest.CaptureFixture[str]) -> None:
    output.remark("by the way [bold]\x00")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "by the way [bold]\\x00\n"


@pytest.mark.parametrize("encoding", ["utf-8", "iso-8859-1", "ascii"])
def test_json_of_a_name_that_standard_output_cannot_hold_is_escaped(
    encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding=encoding))
    data = {"path": Path(os.fsdecode(b"/input/caf\xe9 \xe6\x97\xa5.flac")), "title": "é"}
    output.print_json(data)
    assert json.loads(written.getvalue().decode(encoding)) == {"path": str(data["path"]), "title": "é"}
