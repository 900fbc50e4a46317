"""The reference pages are what the code says."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ironclad.cli import exits, reference, reference_hooks
from ironclad.cli.main import COMMANDS
from ironclad.config import Settings
from ironclad.errors import CATALOGUE
from ironclad.ops.metric_table import METRICS

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


def test_every_hook_is_listed_with_its_sentence_and_what_it_passes() -> None:
    page = reference.pages()["hooks.md"]
    found = reference_hooks.hooks()
    assert set(found) >= {"ironclad_engines", "ironclad_scan_triggers"}
    for name, call in found.items():
        assert f"## `{name}`" in page
        sentence = " ".join((call.__doc__ or "").split())
        assert sentence
        assert sentence in " ".join(page.split())
    for passed in reference_hooks.PASSED:
        assert f"### {passed.__name__}\n" in page
        for field in getattr(passed, "__dataclass_fields__", {}):
            assert f"| `{field}` | " in page


def documented(page: str, name: str) -> bool:
    return re.search(rf"`{re.escape(name)}`", page) is not None


def test_all_that_there_is_is_documented() -> None:
    """Settings, commands, hooks, metrics and error codes: 100 %."""
    pages = reference.pages()

    def leaves(model: Any, prefix: str) -> Iterator[str]:
        for name, field in model.model_fields.items():
            nested, suffix = reference._nested(field.annotation)
            if nested is not None and not suffix:
                yield from leaves(nested, f"{prefix}{name}.")
            else:
                yield f"{prefix}{name}"

    def commands(command: Any, path: str) -> Iterator[str]:
        yield path
        for name, child in getattr(command, "commands", {}).items():
            yield from commands(child, f"{path} {name}")

    settings = list(leaves(Settings, ""))
    called = [path for entry in COMMANDS for path in commands(entry.load(), f"ironclad {entry.name}")]
    assert len(settings) > 80
    assert len(called) > 60
    assert [name for name in settings if not documented(pages["settings.md"], name)] == []
    assert [path for path in called if f"## {path}\n" not in pages["cli.md"]] == []
    assert [spec.name for spec in METRICS if not documented(pages["metrics.md"], spec.name)] == []
    ours = [code for code, entry in CATALOGUE.items() if entry.__module__.startswith("ironclad.")]
    assert [code for code in ours if not documented(pages["errors.md"], code)] == []
    assert [name for name in reference_hooks.hooks() if not documented(pages["hooks.md"], name)] == []
