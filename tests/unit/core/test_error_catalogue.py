"""The catalogue: every failure has a code of its own, says what happened and what to do."""

from __future__ import annotations

import ast
import json
import pickle
import re
from pathlib import Path
from uuid import UUID

import pytest

import ironclad.errors
from ironclad.errors import (
    CATALOGUE,
    AlreadyReceived,
    DiskFull,
    EmptyFile,
    ErrorKind,
    IroncladError,
    NotFound,
    Unexpected,
)

ENTRIES = sorted(CATALOGUE.items())
CONTROL = {"E_LEASE_LOST", "E_DRAINED", "E_PAUSED"}  # not failures, but worth another attempt


def every_class(root: type[IroncladError] = IroncladError) -> set[type[IroncladError]]:
    return {root}.union(*(every_class(child) for child in root.__subclasses__()))


@pytest.mark.parametrize(("code", "entry"), ENTRIES)
def test_an_entry_is_complete(code: str, entry: type[IroncladError]) -> None:
    assert re.fullmatch(r"E_[A-Z]+(_[A-Z]+)*", code)
    assert entry.code == code
    assert "__doc__" in entry.__dict__
    assert entry.what().endswith(".")
    assert entry.what()[0].isupper()
    assert entry.hint.endswith(".")
    assert entry.hint[0].isupper() or entry.hint.startswith("`")
    assert isinstance(entry.kind, ErrorKind)


@pytest.mark.parametrize(("code", "entry"), ENTRIES)
def test_only_what_may_pass_is_retried(code: str, entry: type[IroncladError]) -> None:
    forever = {ErrorKind.INPUT, ErrorKind.CONFIG}
    if entry.kind is ErrorKind.CONTROL:
        assert entry.retryable == (code in CONTROL)
    else:
        assert entry.retryable == (entry.kind not in forever)


@pytest.mark.parametrize(("code", "entry"), ENTRIES)
def test_an_entry_survives_a_process_border(code: str, entry: type[IroncladError]) -> None:
    error = IroncladError.from_code(code, "some detail", path="/a", size=3)
    assert type(error) is entry
    assert str(error) == f"{entry.what()} some detail"
    data = json.loads(json.dumps(error.to_dict()))
    assert data == {
        "code": code, "kind": entry.kind.value, "retryable": entry.retryable, "what": entry.what(),
        "detail": "some detail", "hint": entry.hint, "context": {"path": "/a", "size": 3},
    }  # fmt: skip
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    assert (type(again), str(again), again.context) == (entry, str(error), error.context)


def test_every_class_is_in_the_catalogue_or_a_group() -> None:
    here = {c for c in every_class() if c.__module__ == ironclad.errors.__name__}
    groups = {c for c in here if "code" not in c.__dict__} | {IroncladError}
    assert here - groups == set(CATALOGUE.values())
    assert all(group.__doc__ for group in groups)


def test_entries_are_defined_in_one_place() -> None:
    """So that the documents, `from_code` and a reader find all of them without importing everything."""
    root = Path(ironclad.errors.__file__).parent
    elsewhere = []
    for file in root.rglob("*.py"):
        if file == Path(ironclad.errors.__file__):
            continue
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                named = [n for n in node.body if isinstance(n, ast.Assign) and ast.unparse(n).startswith("code = 'E_")]
                elsewhere += [f"{file.relative_to(root)}: {node.name}" for _ in named]
    assert elsewhere == []


def test_a_code_is_defined_once() -> None:
    with pytest.raises(TypeError, match="E_DISK_FULL is defined twice"):
        type("Another", (IroncladError,), {"code": "E_DISK_FULL"})
    assert CATALOGUE["E_DISK_FULL"] is DiskFull


def test_without_detail_it_says_what_happened() -> None:
    assert str(EmptyFile()) == "The file is empty."
    assert str(pickle.loads(pickle.dumps(EmptyFile()))) == "The file is empty."  # noqa: S301 - our own bytes


def test_an_unknown_code_is_unexpected() -> None:
    error = IroncladError.from_code("E_FROM_THE_FUTURE", "detail")
    assert (type(error), error.detail) == (Unexpected, "detail")


def test_context_keeps_numbers_and_names_everything_else() -> None:
    error = NotFound("x", path=Path("/a"), size=3, ratio=0.5, yes=True, nothing=None, uuid=UUID(int=1))
    assert error.to_dict()["context"] == {
        "path": "/a", "size": 3, "ratio": 0.5, "yes": True, "nothing": None, "uuid": str(UUID(int=1)),
    }  # fmt: skip


def test_a_known_file_names_its_job_on_both_sides_of_a_border() -> None:
    job = UUID(int=7)
    assert AlreadyReceived("x", job_uuid=job).job_uuid == job
    crossed = IroncladError.from_code("E_ALREADY_RECEIVED", "x", job_uuid=str(job))
    assert isinstance(crossed, AlreadyReceived)
    assert crossed.job_uuid == job
