"""The pytest plugin: the options of `pytest --engine NAME`, the fixtures of the contract, the figures at the end.

pytest loads it wherever Ironclad is installed, so nothing is imported, and nothing is done, in runs without `--engine`.
"""

from __future__ import annotations

import argparse
import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ironclad.testing.bench import Bench
    from ironclad.testing.target import Target

SUITE: Final = Path(__file__).with_name("engine_contract.py")
_TARGET: Final = pytest.StashKey[Any]()


@pytest.hookimpl(trylast=True)
def pytest_load_initial_conftests(early_config: pytest.Config, parser: pytest.Parser, args: list[str]) -> None:
    """Add the options: after those of conftest files, so that a project's own `--engine` stays its own."""
    del early_config, args
    options = (
        ("--engine", {"metavar": "NAME", "help": "put this engine to the contract (alone, if no paths are given)"}),
        ("--engine-model", {"metavar": "MODEL", "default": "", "help": "one of its models; else its default"}),
        ("--engine-device", {"metavar": "DEVICE", "default": "cpu", "help": "cpu, cuda, cuda:1, mps"}),
        ("--engine-param", {"metavar": "K=V", "action": "append", "default": [], "help": "a parameter (repeatable)"}),
        (
            "--engine-here",
            {"action": "store_true", "help": "run it with this Python, not with the environment installed for it"},
        ),
    )
    group = parser.getgroup("ironclad", "Ironclad's engine contract")
    for name, attributes in options:
        with contextlib.suppress(ValueError, argparse.ArgumentError):
            group.addoption(name, dest=f"ironclad{name.replace('-', '_')[1:]}", **attributes)


def pytest_configure(config: pytest.Config) -> None:
    """Find the engine; collect the contract if nothing else was asked for."""
    name = getattr(config.option, "ironclad_engine", None)
    if not name:
        return
    from ironclad.errors import IroncladError  # noqa: PLC0415  # other runs stay as they are

    try:
        config.stash[_TARGET] = _target(config, name)
    except IroncladError as exc:
        raise pytest.UsageError(
            f"{exc.detail} ({exc.code})\n{exc.hint}\nTo run it with this Python: --engine-here"
        ) from exc
    if config.args_source is not pytest.Config.ArgsSource.ARGS:
        config.args = [str(SUITE)]


def _target(config: pytest.Config, name: str) -> Target:
    from ironclad.testing.target import Target  # noqa: PLC0415  # likewise

    texts = {pair.partition("=")[0]: pair.partition("=")[2] for pair in config.option.ironclad_engine_param}
    return Target.installed(
        name, model=config.option.ironclad_engine_model, device=config.option.ironclad_engine_device, texts=texts,
        here=config.option.ironclad_engine_here,
    )  # fmt: skip


@pytest.fixture(scope="module")
def engine_target(request: pytest.FixtureRequest) -> Target:
    """The engine of `--engine`. A plugin's own tests override it, for instance with `Target.here(SPEC)`."""
    target: Target | None = request.config.stash.get(_TARGET, None)
    if target is None:
        pytest.skip("no engine is named: pytest --engine NAME")
    return target


@pytest.fixture(scope="module")
def engine_bench(engine_target: Target, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """Where the checks put the engine to the test; its hosts stay warm for all of them."""
    from ironclad.testing.bench import Bench  # noqa: PLC0415  # likewise

    with Bench(engine_target, tmp_path_factory.mktemp("engine")) as bench:
        yield bench


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """What was measured."""
    found: dict[str, Any] = {}
    for kind in ("passed", "failed"):
        for report in terminalreporter.stats.get(kind, []):
            if "engine_contract" in report.nodeid or "test_engine[" in report.nodeid:
                found.update(report.user_properties)
    if found:
        terminalreporter.section("engine contract")
        for name, value in found.items():
            terminalreporter.line(f"{name}: {value}")
