"""The table of transitions: complete, the same in code, migration and documents, and what follows from it."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

import ironclad.db
from ironclad.jobs.states import SETTLED, TRANSITIONS, JobState, mermaid, sources

DOCUMENT = Path(__file__).parents[3] / "docs" / "architecture.md"


def test_every_state_has_its_line() -> None:
    assert set(TRANSITIONS) == set(JobState)
    assert all(targets <= set(JobState) for targets in TRANSITIONS.values())
    assert all(state not in targets for state, targets in TRANSITIONS.items())


def test_every_state_can_be_reached_and_left() -> None:
    reached = {JobState.RECEIVED}.union(*TRANSITIONS.values())
    assert reached == set(JobState)
    assert all(TRANSITIONS.values())


def test_settled_states_are_left_only_for_the_queue() -> None:
    assert {state for state, targets in TRANSITIONS.items() if targets == {JobState.QUEUED}} == SETTLED


def test_work_begins_from_the_queue_only() -> None:
    assert sources(JobState.RUNNING) == {JobState.QUEUED}
    assert sources(JobState.SUCCEEDED) == {JobState.RUNNING}
    assert sources(JobState.RECEIVED) == frozenset()


@pytest.mark.parametrize("target", JobState)
def test_sources_and_targets_agree(target: JobState) -> None:
    assert sources(target) == {state for state in JobState if target in TRANSITIONS[state]}


def test_the_migration_holds_the_same_table() -> None:
    path = Path(ironclad.db.__file__).parent / "migrations" / "versions" / "0001_first_schema.py"
    spec = importlib.util.spec_from_file_location("first_schema", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert {a: set(targets) for a, targets in module.TRANSITIONS.items()} == {
        state.value: {target.value for target in targets} for state, targets in TRANSITIONS.items()
    }


def test_the_diagram_shows_every_arrow_once() -> None:
    arrows = re.findall(r"^    (\S+) --> (\S+)$", mermaid(), re.MULTILINE)
    assert sorted(arrows) == sorted(
        [("[*]", "received")] + [(a.value, b.value) for a, targets in TRANSITIONS.items() for b in targets]
    )


def test_the_document_holds_the_diagram() -> None:
    block = re.search(r"<!-- generated: states -->\n(.*?)<!-- end -->", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    assert block is not None
    assert block[1].strip() == f"```mermaid\n{mermaid()}\n```"
