from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from ironclad.cli.commands import engines, models, plugins
from ironclad.plugins import scaffold

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from typer.testing import Result


def test_engines_list(run: Callable[..., Result]) -> None:
    shown = run("engines", "list").stdout
    assert "center" in shown
    assert "install Demucs for real work" in shown
    data = json.loads(run("engines", "list", "--json").stdout)
    assert set(data) == set(engines.JSON["engines list"])
    center = next(engine for engine in data["engines"] if engine["name"] == "center")
    assert set(center) == set(engines.JSON["engines show"])
    assert center["default"] is True
    assert data["broken"] == []


def test_engines_show_has_parameters_with_ranges(run: Callable[..., Result]) -> None:
    shown = run("engines", "show", "center").stdout
    assert "1 … 64" in shown
    assert "vocals, accompaniment" in shown
    data = json.loads(run("engines", "show", "center", "--json", IRONCLAD_ENGINE__NAME="other").stdout)
    assert data["name"] == "center"
    assert data["default"] is False


def test_an_engine_that_is_not_there(run: Callable[..., Result]) -> None:
    result = run("engines", "show", "centre")
    assert result.exit_code == 3
    assert "Did you mean center?" in result.stderr


def test_plugins_list(run: Callable[..., Result]) -> None:
    assert "center" in run("plugins", "list").stdout
    data = json.loads(run("plugins", "list", "--json").stdout)
    assert set(data) == set(plugins.JSON["plugins list"])
    center = next(plugin for plugin in data["plugins"] if plugin["name"] == "center")
    assert center["builtin"] is True
    assert center["status"] == "loaded"
    assert center["error"] is None


def test_models_of_an_engine_without_any(run: Callable[..., Result]) -> None:
    data = json.loads(run("models", "list", "center", "--json").stdout)
    assert data == {"models": []}
    assert json.loads(run("models", "licences", "--json").stdout) == {"models": []}
    assert json.loads(run("models", "verify", "--json").stdout) == {"models": []}
    removed = json.loads(run("models", "remove", "center", "none", "--json").stdout)
    assert set(removed) == set(models.JSON["models remove"])
    assert removed["removed"] is False
    assert run("models", "remove", "..", "none").exit_code == 5
    assert run("models", "verify", "center", "none").exit_code == 5
    assert run("models", "import", "center", "big", "nothing", "--accept-licence").exit_code == 5
    assert run("models", "pull", "center", "big").exit_code == 5
    refused = run("models", "convert", "center", "center")
    assert refused.exit_code == 2
    assert "nothing to convert" in refused.stderr


def test_an_engine_that_needs_no_environment(run: Callable[..., Result]) -> None:
    result = run("engines", "install", "center")
    assert result.exit_code == 2
    assert "nothing to install" in result.stderr
    data = json.loads(run("engines", "check", "center", "--json").stdout)
    assert set(data) == set(engines.JSON["engines check"])
    assert (data["devices"], data["models"], data["problems"]) == (["cpu"], [], [])
    removed = json.loads(run("engines", "remove", "center", "--json").stdout)
    assert removed == {"engine": "center", "removed": False}
    assert run("engines", "remove", "../x").exit_code == 2


@pytest.mark.parametrize("kind", scaffold.KINDS)
def test_plugins_new(kind: str, run: Callable[..., Result], tmp_path: Path) -> None:
    shown = run("plugins", "new", kind, "mine", str(tmp_path))
    assert shown.exit_code == 0
    assert "pytest" in shown.stdout
    assert (tmp_path / f"ironclad-{kind}-mine/pyproject.toml").is_file()
    data = json.loads(run("plugins", "new", kind, "other", str(tmp_path), "--json").stdout)
    assert set(data) == set(plugins.JSON[f"plugins new {kind}"])
    assert data["distribution"] == f"ironclad-{kind}-other"
    refused = run("plugins", "new", kind, "mine", str(tmp_path))
    assert refused.exit_code == 2
    assert "there already" in " ".join(refused.stderr.split())
    assert run("plugins", "new", kind, "No Name", str(tmp_path)).exit_code == 2
    assert run("plugins", "new", kind, "x", "").exit_code == 2
