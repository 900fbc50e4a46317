from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from ironclad import config
from ironclad.engines import choice
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
    found = audio._usable(settings, engine)
    assert (found.level, found.about) == (level, "heavy")
    assert said in found.detail
