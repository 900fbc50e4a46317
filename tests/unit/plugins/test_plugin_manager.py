from __future__ import annotations

import secrets
import subprocess
import sys
from importlib import metadata
from typing import TYPE_CHECKING

import pytest

from ironclad.errors import NotFound, PluginBroken
from ironclad.plugins import hookspecs
from ironclad.plugins.manager import PluginManager, PluginStatus, installed, selection

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Install = Callable[..., None]

UNKNOWN_HOOK = """
from ironclad.plugins.hookspecs import hookimpl
IRONCLAD_API = 1
@hookimpl
def ironclad_teleport():
    return 1
"""
WRONG_ARGUMENTS = """
from ironclad.plugins.hookspecs import hookimpl
IRONCLAD_API = 1
@hookimpl
def ironclad_engines(wishes):
    return 1
"""
GOOD = """
from ironclad.plugins.hookspecs import hookimpl
IRONCLAD_API = 1
@hookimpl
def ironclad_engines():
    return [{value!r}]
"""


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


@pytest.fixture
def install(site: Path) -> Install:
    """Put a distribution with one plugin module on disk, as an installer would."""

    def put(name: str, code: str, *, distribution: str = "", version: str = "1.0") -> None:
        distribution = distribution or f"ironclad-engine-{name}"
        module = f"plugin_{secrets.token_hex(8)}"  # modules stay imported from test to test
        (site / f"{module}.py").write_text(code)
        info = site / f"{distribution.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
        (info / "entry_points.txt").write_text(f"[{hookspecs.GROUP}]\n{name} = {module}\n")

    return put


@pytest.fixture
def make(site: Path) -> Callable[..., PluginManager]:
    def manager(select: frozenset[str] | None = None) -> PluginManager:
        def found() -> list[metadata.EntryPoint]:
            return [
                entry
                for distribution in metadata.distributions(path=[str(site)])
                for entry in distribution.entry_points
            ]  # fmt: skip

        return PluginManager(select, found)

    return manager


def test_lists_names_without_importing_anything(install: Install, make: Callable[..., PluginManager]) -> None:
    install("boom", "raise RuntimeError('imported')")
    before = set(sys.modules)
    (state,) = make().states()
    assert (state.name, state.distribution, state.version) == ("boom", "ironclad-engine-boom", "1.0")
    assert state.status is PluginStatus.FOUND
    assert not any(name.startswith("plugin_") for name in sys.modules.keys() - before)


def test_loads_one_plugin_and_leaves_the_others_alone(install: Install, make: Callable[..., PluginManager]) -> None:
    install("one", GOOD.format(value=1))
    install("two", GOOD.format(value=2))
    manager = make()
    assert manager.load("one").status is PluginStatus.LOADED
    assert manager.load("one").status is PluginStatus.LOADED
    assert {state.name: state.status.value for state in manager.states()} == {"one": "loaded", "two": "found"}
    assert manager.collect("ironclad_engines") == [("one", [1])]


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("raise RuntimeError('no\\nGPU')", "RuntimeError: no GPU"),
        ("import sys; sys.exit(3)", "SystemExit: 3"),
        ("import no_such_module_anywhere", "ModuleNotFoundError"),
        ("x = 1", "does not state IRONCLAD_API"),
        ("IRONCLAD_API = 99", "plugin API 99; this Ironclad offers 1"),
        (UNKNOWN_HOOK, "hooks that this Ironclad does not have: ironclad_teleport"),
        (WRONG_ARGUMENTS, "PluginValidationError"),
    ],
)
def test_a_broken_plugin_is_a_state_and_the_others_work(
    install: Install, make: Callable[..., PluginManager], code: str, reason: str
) -> None:
    install("bad", code)
    install("good", GOOD.format(value="engine"))
    manager = make()
    states = {state.name: state for state in manager.load_all()}
    assert states["good"].status is PluginStatus.LOADED
    assert states["bad"].status is PluginStatus.BROKEN
    assert reason in states["bad"].error
    assert "\n" not in states["bad"].error
    assert manager.collect("ironclad_engines") == [("good", ["engine"])]
    with pytest.raises(PluginBroken, match="bad"):
        manager.load("bad")


def test_a_hook_that_raises_breaks_its_own_plugin_only(install: Install, make: Callable[..., PluginManager]) -> None:
    install("bad", GOOD.replace("return [{value!r}]", "raise KeyError('config')"))
    install("good", GOOD.format(value=7))
    manager = make()
    manager.load_all()
    assert manager.collect("ironclad_engines") == [("good", [7])]
    states = {state.name: state for state in manager.states()}
    assert (states["bad"].status, states["bad"].error) == (PluginStatus.BROKEN, "KeyError: 'config'")
    assert manager.collect("ironclad_engines") == [("good", [7])]


def test_a_plugin_without_the_hook_is_not_asked(install: Install, make: Callable[..., PluginManager]) -> None:
    install("quiet", "IRONCLAD_API = 1")
    manager = make()
    manager.load_all()
    assert manager.collect("ironclad_engines") == []


def test_the_second_plugin_of_a_name_is_broken_and_says_who_has_it(
    install: Install, make: Callable[..., PluginManager]
) -> None:
    install("center", GOOD.format(value="ours"), distribution="ironclad-audio")
    install("center", GOOD.format(value="theirs"), distribution="aaa-impostor")
    manager = make()
    states = {state.distribution: state for state in manager.load_all()}
    assert states["ironclad-audio"].status is PluginStatus.LOADED
    assert states["ironclad-audio"].builtin
    assert "taken by ironclad-audio" in states["aaa-impostor"].error
    assert manager.collect("ironclad_engines") == [("center", ["ours"])]


def test_the_switch_leaves_out_third_party_plugins_and_keeps_built_in_ones(
    install: Install, make: Callable[..., PluginManager]
) -> None:
    install("center", GOOD.format(value=0), distribution="ironclad-audio")
    install("one", GOOD.format(value=1))
    install("two", "raise RuntimeError")
    manager = make(frozenset({"one"}))
    assert {state.name: state.status.value for state in manager.load_all()} == {
        "center": "loaded", "one": "loaded", "two": "disabled",
    }  # fmt: skip
    assert manager.load("two").status is PluginStatus.DISABLED
    none = make(frozenset())
    none.load_all()
    assert none.collect("ironclad_engines") == [("center", [0])]


@pytest.mark.parametrize(
    ("value", "expected"),
    [(None, None), ("", frozenset()), (" a , b,", frozenset({"a", "b"}))],
)
def test_the_switch_reads_the_environment(value: str | None, expected: frozenset[str] | None) -> None:
    assert selection({} if value is None else {"IRONCLAD_LOAD_PLUGINS": value}) == expected


def test_an_unknown_plugin_is_not_found(make: Callable[..., PluginManager]) -> None:
    with pytest.raises(NotFound, match="nowhere"):
        make().load("nowhere")


def test_an_entry_point_without_a_distribution_is_described() -> None:
    entry = metadata.EntryPoint("loose", "ironclad.engines.builtin", hookspecs.GROUP)
    manager = PluginManager(None, lambda: [entry])
    (state,) = manager.load_all()
    assert (state.distribution, state.status) == ("unknown", PluginStatus.LOADED)


def test_the_built_in_engine_is_installed_as_a_plugin() -> None:
    assert [entry.value for entry in installed() if entry.name == "center"] == ["ironclad.engines.builtin"]


def test_listing_plugins_imports_neither_engines_nor_numpy() -> None:
    code = (
        "import sys; from ironclad.plugins.manager import PluginManager; assert PluginManager().states(); "
        "print([m for m in ('numpy', 'ironclad.engines') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"
