"""Which engine a job gets: its own choice, else the first rule that matches its tags and place, else the default."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from ironclad import config
from ironclad.engines import choice
from ironclad.engines.builtin import ironclad_engines
from ironclad.engines.contract import ModelFile, ModelSpec, PrivateEnvironment
from ironclad.engines.models import ModelStore
from ironclad.errors import EngineMissing, NotFound
from ironclad.metadata.model import TrackTags
from ironclad.metadata.read import Reading
from ironclad.stages import selection
from ironclad.stages.context import StageOutput

if TYPE_CHECKING:
    from collections.abc import Callable

(CENTER,) = ironclad_engines()
WEIGHTS = bytes(10)
FILE = ModelFile(path="w.bin", size=10, sha256="01d448afd928065458cf670b60f5a594d735af0172c8d67f22a81680132681ca")
DRUMS = replace(
    CENTER, name="drums", stems=("vocals", "drums"),
    models=(ModelSpec(name="big", title="", licence="", files=(FILE,)), ModelSpec(name="none", title="", licence="")),
)  # fmt: skip
ELSEWHERE = replace(CENTER, name="elsewhere", environment=PrivateEnvironment(requirements=("numpy==2",)))
TAGS = TrackTags(genres=("Jazz", "Classical"), artists=("Ana",), album_artists=("Ana & Bo",), album="Nights")


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., config.Settings]:
    engines = {spec.name: spec for spec in (CENTER, DRUMS, ELSEWHERE)}

    class Registry:
        def __iter__(self) -> Any:
            return iter(engines.values())

        def get(self, name: str) -> Any:
            if name not in engines:
                raise EngineMissing(name)
            return engines[name]

    monkeypatch.setattr(choice, "installed_engines", Registry)
    return lambda **engine: config.load({"data_dir": tmp_path, "engine": engine, "pools": {"cpu": {}}}, {})


def job(**changes: Any) -> Any:
    fields = {
        "engine": "center", "stems": ["instrumental"], "options": {}, "relative_path": "Ana/Nights/01.flac",
        "user_id": "ana", "watch_root": "/music/in",
    }  # fmt: skip
    return SimpleNamespace(**{**fields, **changes})


OUTPUTS = {"metadata": StageOutput(Path("/nowhere"), {"reading": Reading("FLAC", TAGS, ()).to_dict()}, "m")}


@pytest.mark.parametrize(
    ("patterns", "fits"),
    [
        ({}, True),
        ({"genre": "classical"}, True), ({"genre": "class*"}, True), ({"genre": "rock"}, False),
        ({"artist": "ana & bo"}, True), ({"artist": "bo"}, False), ({"album": "NIGHTS"}, True),
        ({"path": "ana/*"}, True), ({"path": "*.mp3"}, False),
        ({"user": "ana"}, True), ({"user": "bo"}, False), ({"root": "/music/*"}, True),
        ({"genre": "jazz", "user": "ana"}, True), ({"genre": "jazz", "user": "bo"}, False),
    ],
)  # fmt: skip
def test_every_pattern_of_a_rule_must_fit(
    settings: Callable[..., config.Settings],
    patterns: dict[str, str],
    fits: bool,  # noqa: FBT001 - a parameter
) -> None:
    (rule,) = settings(rules=[{**patterns, "engine": "drums"}]).engine.rules
    assert selection.matches(rule, job(), TAGS) is fits


def test_what_a_song_does_not_have_fits_no_pattern(settings: Callable[..., config.Settings]) -> None:
    (rule,) = settings(rules=[{"root": "*", "engine": "drums"}]).engine.rules
    assert not selection.matches(rule, job(watch_root=None), TAGS)


def test_the_first_rule_that_matches_decides_and_brings_its_own_parameters(
    settings: Callable[..., config.Settings],
) -> None:
    mine = settings(
        parameters={"sharpness": 3.0},
        rules=[
            {"genre": "rock", "engine": "center"},
            {"genre": "classical", "engine": "drums", "model": "none", "parameters": {"sharpness": 2.0}},
            {"engine": "center"},
        ],
    )
    chosen = selection.select(job(), mine, OUTPUTS)
    assert chosen is not None
    assert (chosen.engine, chosen.pool) == ("drums", "cpu")
    assert chosen.parameters == {"sharpness": 2.0, "model": "none"}


def test_without_a_match_it_is_as_the_settings_say(settings: Callable[..., config.Settings]) -> None:
    rules = [{"genre": "rock", "engine": "drums"}]
    chosen = selection.select(job(engine="drums"), settings(rules=rules, parameters={"sharpness": 3.0}), OUTPUTS)
    assert chosen is not None
    assert (chosen.engine, chosen.parameters) == ("center", {"sharpness": 3.0})


def test_without_rules_and_for_what_was_asked_for_nothing_changes(settings: Callable[..., config.Settings]) -> None:
    asked = job(options={"engine_asked": True})
    assert selection.select(job(), settings(), OUTPUTS) is None
    assert selection.select(asked, settings(rules=[{"engine": "drums"}]), OUTPUTS) is None


def test_a_rule_that_cannot_be_is_said(settings: Callable[..., config.Settings]) -> None:
    with pytest.raises(EngineMissing):
        selection.select(job(), settings(rules=[{"engine": "gone"}]), OUTPUTS)
    with pytest.raises(NotFound):
        selection.select(job(), settings(rules=[{"engine": "drums", "model": "huge"}]), OUTPUTS)


def test_auto_is_the_best_that_can_be_used_for_the_stems(
    settings: Callable[..., config.Settings], tmp_path: Path
) -> None:
    mine = settings(name="auto")

    def best(**changes: Any) -> str:
        chosen = selection.select(job(engine="auto", **changes), mine, OUTPUTS)
        assert chosen is not None
        return chosen.engine

    assert best() == "center"  # the weights of the other are not here, nor is the environment of the third
    with pytest.raises(EngineMissing, match="makes drums"):
        best(stems=["drums"])
    (tmp_path / "w.bin").write_bytes(WEIGHTS)
    ModelStore(mine.layout).add(DRUMS, "big", [("w.bin", tmp_path / "w.bin")], origin="test", accept_licence=True)
    assert best() == best(stems=["drums"]) == "drums"
    assert best(stems=["accompaniment"]) == "center"
    assert best(options={"engine_asked": True}) == "drums"  # `--engine auto`
    assert choice.choose(mine).engine == choice.choose(mine, engine="auto").engine == "drums"
