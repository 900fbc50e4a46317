"""The reference pages are what the code says."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ironclad.cli import exits, reference
from ironclad.cli.main import COMMANDS
from ironclad.config import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("name", sorted(reference.pages()))
def test_the_page_is_current(name: str) -> None:
    assert (ROOT / "docs" / name).read_text(encoding="utf-8") == reference.pages()[name], "run `make docs`"


def test_writing_them(tmp_path: Path) -> None:
    assert reference.main([str(tmp_path)]) == 0
    assert {path.name for path in tmp_path.iterdir()} == set(reference.pages())
    assert (tmp_path / "cli.md").read_text(encoding="utf-8") == reference.cli()


def test_every_exit_code_is_in_the_table() -> None:
    page = reference.cli()
    for code in exits.EXIT_CODES:
        assert f"| {code} | " in page


def test_every_setting_is_listed() -> None:
    page = reference.settings()
    for name in Settings.model_fields:
        assert f"| `{name}" in page
    for path in ("ingest.roots[].mode", "pools.NAME.slots", "limits.max_seconds", "database_url"):
        assert f"| `{path}` |" in page
    assert "| None |" not in page


def test_every_error_code_in_the_source_is_listed() -> None:
    page = reference.errors()
    defined = {
        code
        for path in (ROOT / "ironclad").rglob("*.py")
        for code in re.findall(r'^    code = "(E_\w+)"', path.read_text(encoding="utf-8"), re.MULTILINE)
    }
    assert len(defined) > 40
    assert {code for code in defined if f"| `{code}` |" not in page} == set()


def json_commands() -> Iterator[tuple[str, Any]]:
    def walk(command: Any, path: str, keys: dict[str, Any]) -> Iterator[tuple[str, Any]]:
        children = getattr(command, "commands", {})
        if not children and any("--json" in parameter.opts for parameter in command.params):
            yield path, keys.get(path)
        for name, child in children.items():
            yield from walk(child, f"{path} {name}", keys)

    for entry in COMMANDS:
        module = importlib.import_module(f"ironclad.cli.commands.{entry.module}")
        yield from walk(entry.load(), entry.name, getattr(module, "JSON", {}))


def test_every_command_with_json_documents_its_keys() -> None:
    found = dict(json_commands())
    assert len(found) >= 20
    assert [path for path, keys in found.items() if not keys] == []
