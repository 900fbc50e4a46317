from __future__ import annotations

import os
import types
from dataclasses import replace
from importlib import metadata
from typing import TYPE_CHECKING

import pytest

from ironclad.engines.builtin import ironclad_engines
from ironclad.engines.registry import EngineRegistry, installed_engines
from ironclad.errors import EngineMissing
from ironclad.plugins.hookspecs import GROUP, hookimpl
from ironclad.plugins.manager import PluginManager, PluginStatus

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

(CENTER,) = ironclad_engines()


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Callable[..., EngineRegistry]:
    """A registry of plugins made of what their hook returns."""

    def build(**answers: object) -> EngineRegistry:
        entries = []
        for name, answer in answers.items():
            module = types.ModuleType(f"engine_plugin_{name}")

            def hook(answer: object = answer) -> object:
                return answer

            module.__dict__.update(IRONCLAD_API=1, ironclad_engines=hookimpl(lambda hook=hook: hook()))
            monkeypatch.setitem(__import__("sys").modules, module.__name__, module)
            entries.append(metadata.EntryPoint(name, module.__name__, GROUP))
        return EngineRegistry(PluginManager(None, lambda: entries))

    return build


def test_engines_come_in_the_order_of_their_names(registry: Callable[..., EngineRegistry]) -> None:
    engines = registry(b=[replace(CENTER, name="zeta"), replace(CENTER, name="alpha")], a=(CENTER,))
    assert [spec.name for spec in engines] == ["alpha", "center", "zeta"]
    assert len(engines) == 3
    assert engines.provider("zeta").name == "b"


def test_a_missing_engine_is_named_with_what_is_close_and_what_is_there(
    registry: Callable[..., EngineRegistry],
) -> None:
    engines = registry(a=[CENTER, replace(CENTER, name="demucs")])
    with pytest.raises(EngineMissing, match=r"no engine 'centre'\. Did you mean center\? Installed: center, demucs\."):
        engines.get("centre")
    with pytest.raises(EngineMissing, match=r"'xyzzy'\. Installed"):
        engines.provider("xyzzy")
    with pytest.raises(EngineMissing, match="Installed: none"):
        registry().get("center")


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (None, ""),
        (42, "returned a int, not a list of EngineSpec"),
        (["center"], "returned a str"),
        ([replace(CENTER, name="ok"), replace(CENTER, name="future", api_version=2)], "plugin API 2"),
        ([replace(CENTER, name="ok"), CENTER], "'center' is taken by plugin 'a'"),
    ],
)
def test_a_plugin_that_breaks_the_contract_loses_all_its_engines_and_no_one_elses(
    registry: Callable[..., EngineRegistry], answer: object, reason: str
) -> None:
    engines = registry(a=[CENTER], b=answer)
    assert [spec.name for spec in engines] == ["center"]
    state = next(state for state in engines.plugins() if state.name == "b")
    assert state.status is (PluginStatus.BROKEN if reason else PluginStatus.LOADED)
    assert reason in state.error


def test_the_environment_switch_goes_before_the_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IRONCLAD_LOAD_PLUGINS", "")
    assert installed_engines(frozenset({"anything"})).get("center") == CENTER
    monkeypatch.delenv("IRONCLAD_LOAD_PLUGINS")
    assert installed_engines().provider("center").builtin


def test_the_engines_are_looked_for_again_only_when_something_was_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = installed_engines(frozenset())
    assert installed_engines(frozenset()) is first
    monkeypatch.syspath_prepend(tmp_path)
    assert installed_engines(frozenset()) is not first
    second = installed_engines(frozenset())
    (tmp_path / "new-1.0.dist-info").mkdir()
    os.utime(tmp_path, ns=(1, 1))
    assert installed_engines(frozenset()) is not second


def test_a_broken_plugin_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = tmp_path / "half-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: half\nVersion: 1.0\n", encoding="ascii")
    (info / "entry_points.txt").write_text("[ironclad]\nhalf = half_done\n", encoding="ascii")
    monkeypatch.delenv("IRONCLAD_LOAD_PLUGINS", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    broken = installed_engines()
    assert {state.name: state.status.value for state in broken.plugins()}["half"] == "broken"
    assert installed_engines() is not broken
