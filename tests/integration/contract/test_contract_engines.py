"""Every engine in the tree keeps the contract; `pytest --engine` is what the guide says, and disturbs nobody."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import tiny_models

from ironclad.testing.bench import Bench
from ironclad.testing.engine_contract import CHECKS, judge
from ironclad.testing.target import Target

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.timeout(900)

MINUTES = "memory-flat-in-length"
"""The check that separates minutes of music."""
SUITE = ["-p", "no:cacheprovider", "-p", "no:randomly", "-p", "no:cov", "-p", "no:xdist"]


def run(folder: Path, *words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """pytest in a process of its own, in a folder of its own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("IRONCLAD_", "PYTEST_"))}
    return subprocess.run(
        [sys.executable, "-m", "pytest", *SUITE, *words], cwd=folder, capture_output=True, text=True, check=False,
        env={**kept, "IRONCLAD_DATA_DIR": str(folder / "data"), "COLUMNS": "200", **environ}, timeout=800,
    )  # fmt: skip


@pytest.mark.slow
def test_center_by_name(tmp_path: Path) -> None:
    (tmp_path / "test_other.py").write_text("def test_other(): assert False  # is not what was asked for\n")
    done = run(tmp_path, "--engine", "center", "--timeout=700", "-v")
    assert done.returncode == 0, done.stdout
    assert f"{len(CHECKS) - 1} passed, 1 skipped" in done.stdout
    for check in CHECKS:
        assert f"test_engine[{check.name}]" in done.stdout
    assert re.search(r"center/none on cpu: cancelled in: [0-2]\.\d+ s", done.stdout)  # the check itself says how long
    assert "for a second of music" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("left_out", [[MINUTES], pytest.param([], marks=pytest.mark.chaos)], ids=["short", "whole"])
@pytest.mark.parametrize("name", ["demucs", "spleeter"])
def test_plugins_with_a_small_model(
    name: str, left_out: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnx", reason="the package onnx is not here")
    pytest.importorskip("onnxruntime", reason="ONNX Runtime is not here")
    pytest.importorskip("yaml", reason="PyYAML is not here")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = getattr(tiny_models, name)(tmp_path / "model")
    (spec,) = importlib.import_module(f"ironclad_engine_{name}.plugin").ironclad_engines()
    with Bench(Target.here(spec, model_folder=folder), tmp_path) as bench:
        found = {check.name: judge(check, bench) for check in CHECKS if check.name not in left_out}
    assert {check: text for check, (verdict, text) in found.items() if verdict == "broken"} == {}
    assert [check for check, (verdict, _) in found.items() if verdict == "not judged"] == ["exact-sum"]


def test_an_engine_that_is_not_there_is_said_at_once(tmp_path: Path) -> None:
    done = run(tmp_path, "--engine", "centre")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "Did you mean center?" in done.stderr
    assert "E_ENGINE_MISSING" in done.stderr
    assert "Traceback" not in done.stderr + done.stdout


def test_a_parameter_that_is_not_there_is_said_at_once(tmp_path: Path) -> None:
    done = run(tmp_path, "--engine", "center", "--engine-param", "sharpnes=3")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "did you mean sharpness?" in done.stderr


def test_options_reach_the_engine(tmp_path: Path) -> None:
    words = ("--engine", "center", "--engine-param", "sharpness=3", "--engine-here", "-k", "declaration or separates")
    done = run(tmp_path, *words)
    assert done.returncode == 0, done.stdout
    assert "2 passed" in done.stdout
    done = run(tmp_path, "--engine", "center", "--engine-device", "cuda", "-k", "separates")
    assert done.returncode == pytest.ExitCode.TESTS_FAILED
    assert "runs on the CPU, not on cuda" in done.stdout
    assert "What to do: start with `load`" in done.stdout


def test_other_runs_are_left_alone(tmp_path: Path) -> None:
    """Nothing of Ironclad but the plugin itself is imported, and a project's own --engine stays its own."""
    (tmp_path / "conftest.py").write_text(
        "def pytest_addoption(parser):\n    parser.addoption('--engine', default='theirs')\n"
    )
    (tmp_path / "test_theirs.py").write_text(
        "import sys\n\n\ndef test_theirs(request):\n"
        "    assert request.config.getoption('--engine') in {'theirs', 'steam'}\n"
        "    ours = {name for name in sys.modules if name.startswith('ironclad')}\n"
        "    assert ours == {'ironclad', 'ironclad.testing', 'ironclad.testing.plugin'}\n"
        "    assert 'numpy' not in sys.modules\n"
    )
    for words in ((), ("--engine", "steam")):
        done = run(tmp_path, *words)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "1 passed" in done.stdout
        assert "engine contract" not in done.stdout


def test_the_contract_without_an_engine_says_what_is_missing(tmp_path: Path) -> None:
    done = run(tmp_path, "--pyargs", "ironclad.testing.engine_contract", "-rs")
    assert done.returncode == 0
    assert "no engine is named: pytest --engine NAME" in done.stdout


def test_without_pytest_it_is_said_how_to_get_it() -> None:
    lines = "import sys; sys.modules['pytest'] = None; import ironclad.testing.engine_contract"
    done = subprocess.run([sys.executable, "-c", lines], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert "pip install 'ironclad-audio[testing]'" in done.stderr
