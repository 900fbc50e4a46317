from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from ironclad import config
from ironclad.engines import choice
from ironclad.engines.builtin import ironclad_engines
from ironclad.engines.contract import ModelFile, ModelSpec
from ironclad.engines.host import launch
from ironclad.errors import BadRequest, EngineMissing, NotFound

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

(CENTER,) = ironclad_engines()
FAST = replace(
    CENTER, name="fast", devices=("cuda", "mps", "cpu"),
    models=(ModelSpec(name="small", title="", licence=""), ModelSpec(name="large", title="", licence="")),
)  # fmt: skip


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., config.Settings]:
    class Registry:
        def get(self, name: str) -> Any:
            found = {"fast": FAST, "center": CENTER}.get(name)
            if found is None:
                raise EngineMissing(name)
            return found

    monkeypatch.setattr(choice, "installed_engines", Registry)

    def make(*pools: str, **engine: Any) -> config.Settings:
        return config.load(
            {"data_dir": tmp_path, "engine": engine, "pools": {name: {} for name in pools or ("cpu",)}}, {}
        )

    return make


def test_the_settings_decide_unless_the_job_does(settings: Callable[..., config.Settings]) -> None:
    mine = settings(name="fast", model="large", parameters={"sharpness": 3.0})
    assert choice.choose(mine).parameters == {"sharpness": 3.0, "model": "large"}
    assert choice.choose(mine, engine="fast").parameters == {"sharpness": 3.0, "model": "large"}
    assert choice.choose(mine, model="small").parameters == {"sharpness": 3.0, "model": "small"}
    other = choice.choose(mine, engine="center")
    assert (other.engine, other.parameters) == ("center", {})


def test_what_is_not_there_is_refused(settings: Callable[..., config.Settings]) -> None:
    with pytest.raises(EngineMissing):
        choice.choose(settings(), engine="slow")
    with pytest.raises(NotFound, match="small, large"):
        choice.choose(settings(), engine="fast", model="huge")
    with pytest.raises(BadRequest):
        choice.choose(settings(name="fast", parameters={"loudness": 3.0}))


@pytest.mark.parametrize(
    ("pools", "device", "engine", "pool"),
    [
        (("cpu",), "auto", "fast", "cpu"),
        (("cpu", "gpu"), "auto", "fast", "gpu"),
        (("gpu",), "auto", "fast", "gpu"),
        (("cpu", "gpu"), "cpu", "fast", "cpu"),
        (("cpu",), "cuda:1", "fast", "gpu"),
        (("cpu", "gpu"), "auto", "center", "cpu"),
        (("cpu", "gpu"), "cuda", "center", "cpu"),
    ],
)
def test_the_device_decides_the_pool(
    pools: tuple[str, ...], device: str, engine: str, pool: str, settings: Callable[..., config.Settings]
) -> None:
    assert choice.choose(settings(*pools, name=engine, device=device)).pool == pool


@pytest.mark.parametrize(
    ("device", "pool", "here", "used"),
    [
        ("auto", "cpu", (), "cpu"),
        ("auto", "gpu", (), "cuda"),
        ("auto", "gpu", ("mps", "cpu"), "mps"),
        ("cuda:1", "gpu", (), "cuda:1"),
        ("cpu", "gpu", (), "cpu"),
    ],
)
def test_the_pool_decides_the_device(
    device: str, pool: str, here: tuple[str, ...], used: str, settings: Callable[..., config.Settings]
) -> None:
    assert choice.device(settings(device=device).engine, FAST, pool, here=here) == used


def test_an_engine_for_the_cpu_alone_is_never_sent_elsewhere(settings: Callable[..., config.Settings]) -> None:
    assert choice.device(settings(device="cuda").engine, CENTER, "cpu") == "cpu"
    assert choice.device(settings().engine, CENTER, "gpu") == "cpu"


def test_a_jobs_model_is_a_parameter_of_its_own(settings: Callable[..., config.Settings]) -> None:
    layout = settings().layout
    engine = choice.of_job(layout, "fast", {"model": "large", "sharpness": 2.0})
    assert (engine.model, engine.parameters, engine.sample_rate) == ("large", {"sharpness": 2.0}, None)
    assert engine.key()["model"] == "large"
    assert choice.of_job(layout, "fast", {}).model == "small"
    assert choice.of_job(layout, "fast", {}).key() != choice.of_job(layout, "fast", {"model": "large"}).key()
    assert choice.ready(layout, engine) == choice.Ready(None, None)
    with pytest.raises(NotFound):
        choice.of_job(layout, "fast", {"model": "gone"})


def test_devices_are_checked_as_settings(settings: Callable[..., config.Settings]) -> None:
    for device in ("gpu", "cuda:", "cuda:x", "cpu:0", ""):
        with pytest.raises(config.ConfigError):
            settings(device=device)


def test_lent_packages_are_found_and_no_others(tmp_path: Path) -> None:
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack/__init__.py").write_text("")
    (tmp_path / "single.py").write_text("")
    finder = launch.Lent({"pack": tmp_path / "pack", "single": tmp_path / "single.py"})
    pack, single = finder.find_spec("pack"), finder.find_spec("single")
    assert pack is not None
    assert single is not None
    assert pack.submodule_search_locations == [str(tmp_path / "pack")]
    assert single.submodule_search_locations is None
    assert finder.find_spec("numpy") is None
    assert finder.find_spec("pack.inner") is None


def test_the_launchers_own_options_are_taken_out() -> None:
    folders, rest = launch.split(["--package", "a=/x/a", "--entry", "a:b", "--package", "c=/y=z"])
    assert {name: str(folder) for name, folder in folders.items()} == {"a": "/x/a", "c": "/y=z"}
    assert rest == ["--entry", "a:b"]
    for bad in (["--package"], ["--package", "a"], ["--package", "=b"], ["--package", "a="]):
        with pytest.raises(ValueError, match="NAME=FOLDER"):
            launch.split(bad)


def test_auto_takes_no_engine_whose_weights_are_not_there(
    settings: Callable[..., config.Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = ModelFile(path="weights", size=0, sha256="0" * 64)  # of unknown size
    absent = replace(CENTER, name="absent", models=(replace(CENTER.models[0], files=(weights,)),))
    monkeypatch.setattr(choice, "installed_engines", lambda: (absent, CENTER))
    assert choice.choose(settings(), engine="auto").engine == "center"
    assert choice.choose(settings(), engine="auto", stems=("karaoke", "no_vocals")).engine == "center"
    with pytest.raises(EngineMissing, match="makes piano"):
        choice.choose(settings(), engine="auto", stems=("piano",))
