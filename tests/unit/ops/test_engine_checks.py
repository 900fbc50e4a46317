from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from ironclad import config
from ironclad.engines import choice, environments
from ironclad.engines.builtin import ironclad_engines
from ironclad.engines.contract import ModelFile, ModelSpec, PrivateEnvironment
from ironclad.ops.checks import audio
from ironclad.ops.checks.outcome import Level

if TYPE_CHECKING:
    from pathlib import Path

(CENTER,) = ironclad_engines()
HEAVY = replace(
    CENTER, name="heavy", environment=PrivateEnvironment(requirements=("numpy==2.4.6",)),
    models=(ModelSpec(name="big", title="", licence="", files=(ModelFile(path="w", size=1, sha256="0" * 64),)),),
)  # fmt: skip


@pytest.mark.parametrize(
    ("engine", "default", "level", "said"),
    [
        (HEAVY, "heavy", Level.FAIL, "ironclad engines install heavy"),
        (HEAVY, "center", Level.WARN, "ironclad engines install heavy"),
        (replace(HEAVY, environment=CENTER.environment), "heavy", Level.FAIL, "ironclad models import heavy big"),
        (replace(CENTER, name="heavy"), "heavy", Level.OK, "Stereo centre"),
    ],
)
def test_what_an_engine_lacks_is_said_with_the_command(  # noqa: PLR0917  # cases and fixtures
    engine: Any, default: str, level: Level, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choice, "installed_engines", lambda: {"heavy": engine})
    settings = config.load({"data_dir": tmp_path, "engine": {"name": default}}, {})
    found = audio._tried(settings, engine)
    assert (found.level, found.about) == (level, "heavy")
    assert said in found.detail


def test_every_engine_that_is_usable_separates_a_second() -> None:
    settings = config.load({}, {})
    found = audio._tried(settings, CENTER)
    assert found.level is Level.OK
    assert "1 s into" in found.detail


class Card:
    """A strict nvidia-smi on the path."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.program = folder / "nvidia-smi"
        monkeypatch.setenv("PATH", str(folder))

    def says(self, text: str, code: int = 0) -> None:
        self.program.write_text(
            f"#!{sys.executable}\nimport sys\n"
            "assert sys.argv[1:] == ['--query-gpu=name,memory.used,memory.total,utilization.gpu', "
            f"'--format=csv,noheader,nounits'], sys.argv\nprint({text!r})\nsys.exit({code})\n",
            encoding="utf-8",
        )
        self.program.chmod(0o755)


@pytest.fixture
def card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Card:
    return Card(tmp_path, monkeypatch)


def asked(tmp_path: Path, **settings: Any) -> list[tuple[Level, str]]:
    found = audio.gpu(config.load({"data_dir": tmp_path, **settings}, {}))
    return [(one.level, one.detail) for one in found]


def test_a_gpu_is_looked_at_only_where_one_is_configured(card: Card, tmp_path: Path) -> None:
    assert asked(tmp_path) == [(Level.OK, "no GPU is configured")]
    ((level, detail),) = asked(tmp_path, pools={"gpu": {"slots": 1}})
    assert (level, "nvidia-smi" in detail) == (Level.FAIL, True)
    card.says("Test Card, 100, 8000, 7")
    assert asked(tmp_path, pools={"gpu": {"slots": 1}}) == [
        (Level.OK, "Test Card: 100 of 8000 MiB used, 7 % busy")
    ]  # fmt: skip
    card.says("", 9)
    assert asked(tmp_path, engine={"device": "cuda"})[0][0] is Level.FAIL


def test_a_gpu_that_the_engine_cannot_use_is_said(card: Card, tmp_path: Path) -> None:
    card.says("Test Card, 0, 8000, 0")
    settings = config.load({"data_dir": tmp_path, "pools": {"gpu": {"slots": 1}}}, {})
    made = environments.Environment(
        "center", environments.home(settings.layout, "center") / "x.1", "d", "3.11", {}, ("cpu",), "2026-01-01"
    )
    made.folder.mkdir(parents=True)
    environments.enforce(settings.layout, made)
    found = audio.gpu(settings)
    assert [one.level for one in found] == [Level.OK, Level.FAIL]
    assert "ironclad engines install center" in found[1].remedy
