"""Tests that may not run side by side, or share something dear, go to one worker."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import schedule

ROOT = Path(__file__).parents[3]
_MARK = re.compile(r"""xdist_group\(["'](\w+)["']\)""")


@pytest.mark.parametrize(
    ("nodeid", "group"),
    [
        ("tests/e2e/test_demo.py::test_the_demo", "services"),
        ("tests/e2e/test_wheel.py::test_it_runs", "tests/e2e/test_wheel.py"),
        ("tests/integration/flows/test_several_servers.py::test_two", "services"),
        ("tests/integration/flows/test_warm_worker.py::test_one[a::b]", "prefect"),
        ("tests/integration/engines/test_engine_host.py::test_oom", "engines"),
        ("tests/integration/contract/test_contract_engines.py::test_one", "engines"),
        ("tests/unit/core/test_errors.py::test_one[tests/e2e/x@y]", "tests/unit/core/test_errors.py"),
    ],
)
def test_a_test_belongs_to_its_group_or_its_file(nodeid: str, group: str) -> None:
    assert schedule.group(nodeid) == group


def test_what_is_marked_is_what_is_done() -> None:
    found = {
        path.relative_to(ROOT).as_posix(): names
        for path in sorted((ROOT / "tests").rglob("test_*.py"))
        if (names := _MARK.findall(path.read_text(encoding="utf-8")))
    }
    assert len(found) > 10
    assert {path: [schedule.group(f"{path}::test")] for path in found} == found


def test_long_things_come_first_and_unit_tests_fill_the_gap() -> None:
    def item(nodeid: str, *marks: str) -> Any:
        return SimpleNamespace(nodeid=nodeid, get_closest_marker=lambda name: name if name in marks else None)

    items = [
        item("tests/unit/a/test_a.py::test"), item("tests/integration/a/test_b.py::test"),
        item("tests/integration/a/test_c.py::test", "slow"), item("tests/integration/flows/test_d.py::test"),
        item("tests/tui/test_e.py::test"), item("tests/e2e/test_f.py::test", "slow"),
    ]  # fmt: skip
    assert "".join(item.nodeid[-10] for item in schedule.ordered(items)) == "fcdbea"
