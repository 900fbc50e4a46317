"""Private environments: really built (offline, from a wheel made here), checked, replaced and removed."""

from __future__ import annotations

import base64
import fcntl
import hashlib
import json
import shutil
import sys
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from ironclad import durable, errors
from ironclad.engines import convert, environments, install
from ironclad.engines.client import EngineHost
from ironclad.engines.contract import EngineSpec, MemoryModel, ModelSpec, PrivateEnvironment
from ironclad.engines.models import ModelStore
from ironclad.engines.separation import HostSettings, SeparationRequest
from ironclad.layout import Layout

if TYPE_CHECKING:
    from collections.abc import Callable

ENGINE = """
import numpy
import private_thing

def convert(model, source, target):
    if (source / "weights").read_text() != "good":
        from ironclad.engines.host.api import EngineError
        raise EngineError("model", "these weights are not good")
    (target / "graph").write_text(f"{model} {private_thing.SHARE}")

class Halves:
    def devices(self): return ["cuda", "cpu"]
    def load(self, request): self.share = private_thing.SHARE
    def separate(self, reader, sinks, params, progress, cancelled):
        mixture = reader.read(0, reader.frames)
        sinks.write({"vocals": mixture * self.share, "rest": mixture * (1 - self.share)})
        progress(1, 1)
"""


def wheel(folder: Path, name: str, version: str, files: dict[str, str]) -> None:
    """A wheel of pure Python."""
    info = f"{name}-{version}.dist-info"
    files = {
        **files,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    lines = []
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as zipped:
        for path, text in files.items():
            digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
            lines.append(f"{path},sha256={digest},{len(text)}")
            zipped.writestr(path, text)
        zipped.writestr(f"{info}/RECORD", "\n".join([*lines, f"{info}/RECORD,,"]))


@pytest.fixture
def wheels(tmp_path: Path) -> Path:
    folder = tmp_path / "wheels"
    folder.mkdir()
    wheel(folder, "private_thing", "1.0", {"private_thing.py": "SHARE = 0.25\n"})
    wheel(folder, "private_thing", "2.0", {"private_thing.py": "SHARE = 0.75\n"})
    wheel(folder, "broken_thing", "1.0", {"private_thing.py": "raise RuntimeError('bad build')\n"})
    return folder


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "data")


@pytest.fixture
def spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., EngineSpec]:
    """An engine whose plugin is importable here, and whose package is not. NumPy is taken from this environment."""
    plugin = tmp_path / "plugin"
    (plugin / "halves_engine").mkdir(parents=True)
    (plugin / "halves_engine/__init__.py").write_text("")
    (plugin / "halves_engine/separator.py").write_text(ENGINE)
    monkeypatch.syspath_prepend(str(plugin))
    real = environments.command

    def with_numpy(engine: EngineSpec, interpreter: Path, entry: str = "") -> list[str]:
        # A wheel of NumPy would make these tests need a network; the package itself can be lent like any other.
        words = real(engine, interpreter, entry)
        return [*words[:3], "--package", f"numpy={Path(np.__file__).parent}", *words[3:]]

    monkeypatch.setattr(environments, "command", with_numpy)

    def make(*requirements: str, python: str = ">=3.11") -> EngineSpec:
        return EngineSpec(
            name="halves", title="Halves", version="1", api_version=1, entry="halves_engine.separator:Halves",
            stems=("vocals", "rest"), models=(ModelSpec(name="one", title="", licence="MIT"),),
            memory=MemoryModel(base=1), environment=PrivateEnvironment(requirements=requirements, python=python),
        )  # fmt: skip

    return make


def separate(layout: Layout, engine: EngineSpec, tmp_path: Path) -> float:
    """The share that the engine's private package says."""
    mixture, out = tmp_path / "mix.f32", tmp_path / "out"
    np.ones((100, 2), "<f4").tofile(mixture)
    out.mkdir(exist_ok=True)
    built = environments.required(layout, engine)
    assert built is not None
    request = SeparationRequest(input=mixture, frames=100, channels=2, rate=44100, output=out)
    with EngineHost(engine, interpreter=built.interpreter, settings=HostSettings(start_seconds=120)) as host:
        done = host.separate(request)
    return float(np.fromfile(done.stems["vocals"].path, "<f4")[0])


@pytest.mark.slow
def test_an_engine_is_installed_used_updated_and_removed(
    layout: Layout, wheels: Path, spec: Callable[..., EngineSpec], tmp_path: Path
) -> None:
    source = install.Source(find_links=(wheels,), offline=True)
    engine = spec("private_thing==1.0")
    with pytest.raises(errors.EngineNotBuilt, match="`ironclad engines install halves`"):
        environments.required(layout, engine)
    lines: list[str] = []
    made = install.install(layout, engine, source, say=lines.append)
    assert made.packages["private_thing"] == "1.0"
    assert made.devices == ("cuda", "cpu")
    assert made == environments.current(layout, "halves")
    assert any("private_thing" in line for line in lines)
    assert separate(layout, engine, tmp_path) == 0.25
    assert "private_thing" not in sys.modules

    lines.clear()
    assert install.install(layout, engine, source, say=lines.append) == made
    assert lines == ["halves is installed already."]

    newer = spec("private_thing==2.0")
    with pytest.raises(errors.EngineNotBuilt, match="outdated"):
        environments.required(layout, newer)
    changed = install.install(layout, newer, source)
    assert changed.folder != made.folder
    assert made.interpreter.exists()  # a host may still run there
    assert separate(layout, newer, tmp_path) == 0.75
    assert install.check(layout, newer)["devices"] == ["cuda", "cpu"]

    shutil.rmtree(changed.folder)
    with pytest.raises(errors.EngineNotBuilt, match="is gone"):
        environments.required(layout, newer)
    assert install.remove(layout, "halves")
    assert not install.remove(layout, "halves")
    assert not environments.home(layout, "halves").exists()


@pytest.mark.slow
def test_what_fails_leaves_the_one_in_force_and_is_gone_on_with(
    layout: Layout, wheels: Path, spec: Callable[..., EngineSpec], tmp_path: Path
) -> None:
    source = install.Source(find_links=(wheels,), offline=True)
    engine = spec("private_thing==2.0")
    made = install.install(layout, engine, source)
    missing = spec("private_thing==3.0")
    with pytest.raises(errors.EngineInstallFailed, match=r"private.thing==3\.0"):
        install.install(layout, missing, source)
    with pytest.raises(errors.EngineInstallFailed, match="bad build"):
        install.install(layout, spec("broken_thing==1.0"), source)
    assert environments.current(layout, "halves") == made
    assert separate(layout, engine, tmp_path) == 0.75
    wheel(wheels, "private_thing", "3.0", {"private_thing.py": "SHARE = 0.5\n"})
    lines: list[str] = []
    install.install(layout, missing, source, say=lines.append)
    assert not any("virtual environment" in line for line in lines)  # that part was there
    assert separate(layout, missing, tmp_path) == 0.5


@pytest.mark.slow
def test_an_environment_of_before_that_is_broken_is_built_anew(
    layout: Layout, wheels: Path, spec: Callable[..., EngineSpec], tmp_path: Path
) -> None:
    """The one before is kept for its hosts, and would be gone on with: pip finds every package there."""
    source = install.Source(find_links=(wheels,), offline=True)
    engine = spec("private_thing==2.0")

    def damage(made: environments.Environment, text: str) -> None:
        next(made.folder.glob("lib/python*/site-packages/private_thing.py")).write_text(text)

    first = install.install(layout, engine, source)
    damage(first, "raise RuntimeError('bit rot')")
    second = install.install(layout, engine, source)
    assert second.folder != first.folder
    damage(second, "raise RuntimeError('bit rot')")
    third = install.install(layout, engine, source)
    assert separate(layout, engine, tmp_path) == 0.75
    install.install(layout, engine, source, again=True)
    damage(third, "SHARE = 0.5")  # wrong, and nothing complains
    forced = install.install(layout, engine, source, again=True)
    assert forced.folder == third.folder
    assert separate(layout, engine, tmp_path) == 0.75


@pytest.mark.slow
def test_an_unfinished_environment_whose_python_is_gone_is_begun_anew(
    layout: Layout, wheels: Path, spec: Callable[..., EngineSpec], tmp_path: Path
) -> None:
    source = install.Source(find_links=(wheels,), offline=True)
    engine = spec("private_thing==3.0")
    with pytest.raises(errors.EngineInstallFailed):
        install.install(layout, engine, source)
    (python,) = environments.home(layout, "halves").glob("*/bin/python")
    python.unlink()
    python.symlink_to(tmp_path / "python of before an upgrade")
    wheel(wheels, "private_thing", "3.0", {"private_thing.py": "SHARE = 0.5\n"})
    install.install(layout, engine, source)
    assert separate(layout, engine, tmp_path) == 0.5


@pytest.mark.slow
def test_variants_are_chosen_kept_and_needed_for_converting(
    layout: Layout, wheels: Path, spec: Callable[..., EngineSpec], tmp_path: Path
) -> None:
    source = install.Source(find_links=(wheels,), offline=True)
    small = PrivateEnvironment(name="small", requirements=("private_thing==2.0",))
    large = PrivateEnvironment(name="large", requirements=("private_thing==1.0",), variants=(small,))
    engine = replace(
        spec(), environment=large, custom_models=True, converter="halves_engine.separator:convert",
        converter_variant="large",
    )  # fmt: skip
    store, weights = ModelStore(layout), tmp_path / "weights"
    weights.write_text("good")
    store.add(engine, "mine", [("weights", weights)], origin="here", accept_licence=True, pin=True)
    with pytest.raises(errors.NotFound, match="there is: large, small"):
        install.install(layout, engine, source, variant="tiny")

    made = install.install(layout, engine, source, variant="small")
    assert (made.variant, made) == ("small", environments.current(layout, "halves"))
    assert separate(layout, engine, tmp_path) == 0.75
    assert install.install(layout, engine, source) == made  # what is installed stays, if nothing else is asked for
    with pytest.raises(errors.EngineNotBuilt, match="`ironclad engines install halves --variant large`"):
        convert.convert(layout, engine, "mine")

    assert install.install(layout, engine, source, variant="large").variant == "large"
    assert separate(layout, engine, tmp_path) == 0.25
    stored = convert.convert(layout, engine, "mine")
    assert [file.path for file in stored.converted] == ["converted/graph"]
    assert (stored.folder / "converted/graph").read_text() == "mine 0.25"
    (stored.folder / "converted/graph").write_text("damaged")
    with pytest.raises(errors.ModelMismatch, match="`ironclad models convert halves mine` makes them again"):
        ModelStore(layout).required(engine, "mine")
    assert convert.convert(layout, engine, "mine") == stored
    assert (stored.folder / "converted/graph").read_text() == "mine 0.25"
    with pytest.raises(errors.BadRequest, match="nothing to convert"):
        convert.convert(layout, replace(engine, converter="", converter_variant=""), "mine")
    weights.write_text("bad")
    store.add(engine, "mine", [("weights", weights)], origin="here", accept_licence=True, pin=True)
    with pytest.raises(errors.ModelBroken, match="cannot be converted: these weights are not good"):
        convert.convert(layout, engine, "mine")


def test_options_that_cannot_work(layout: Layout, spec: Callable[..., EngineSpec], tmp_path: Path) -> None:
    with pytest.raises(errors.BadRequest, match="--find-links"):
        install.install(layout, spec(), install.Source(offline=True))
    with pytest.raises(errors.BadRequest, match="not a folder"):
        install.Source(find_links=(tmp_path / "nothing",)).options()
    with pytest.raises(errors.BadRequest, match="nothing to install"):
        install.install(layout, replace(spec(), environment=replace_shared()))
    words = install.Source(find_links=(tmp_path,), extra_indexes=("https://example.org/simple",)).options()
    assert words == ["--find-links", str(tmp_path), "--extra-index-url", "https://example.org/simple"]
    offline = install.Source(find_links=(tmp_path,), extra_indexes=("https://example.org",), offline=True).options()
    assert offline == ["--no-index", "--find-links", str(tmp_path)]


def replace_shared() -> Any:
    from ironclad.engines.contract import SharedEnvironment  # noqa: PLC0415  # one use

    return SharedEnvironment()


def test_two_installations_at_a_time_are_refused(layout: Layout, spec: Callable[..., EngineSpec]) -> None:
    base = environments.home(layout, "halves")
    base.mkdir(parents=True)
    with (base / ".lock").open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(errors.AlreadyRunning):
            install.install(layout, spec("private_thing==1.0"))
        with pytest.raises(errors.AlreadyRunning):
            install.remove(layout, "halves")


def test_nothing_is_installed_into_a_folder_that_is_being_removed(
    layout: Layout, spec: Callable[..., EngineSpec], monkeypatch: pytest.MonkeyPatch
) -> None:
    base = environments.home(layout, "halves")
    (base / "old.1").mkdir(parents=True)
    refused: list[Path] = []
    really = durable.remove_tree

    def remove_tree(path: Path, *, reason: str) -> None:
        with pytest.raises(errors.AlreadyRunning, match="or removed"):
            install.install(layout, spec("private_thing==1.0"))
        refused.append(path)
        really(path, reason=reason)

    monkeypatch.setattr(durable, "remove_tree", remove_tree)
    assert install.remove(layout, "halves")
    assert refused == [base]
    assert not base.exists()


def test_a_lock_that_was_removed_with_its_folder_locks_nothing(
    layout: Layout, spec: Callable[..., EngineSpec], monkeypatch: pytest.MonkeyPatch
) -> None:
    base = environments.home(layout, "halves")
    base.mkdir(parents=True)
    really = fcntl.flock

    def flock(file: Any, operation: int) -> None:
        monkeypatch.setattr(fcntl, "flock", really)
        shutil.rmtree(base)  # by a removal that ends between the opening and the locking
        really(file, operation)

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(errors.AlreadyRunning):
        install.install(layout, spec("private_thing==1.0"))
    assert not base.exists()


def test_a_python_of_the_range_is_looked_for() -> None:
    assert install.interpreter_for(">=3.11") == sys.executable
    assert install.interpreter_for(">=3.8", [sys.executable]) == sys.executable
    with pytest.raises(errors.EngineInstallFailed, match=r"No Python ==2\.7"):
        install.interpreter_for("==2.7", ["python3", "no-such-python"])
    with pytest.raises(errors.BadRequest, match="not a range"):
        install.interpreter_for("three")


def test_records_of_no_use_are_no_environment(layout: Layout) -> None:
    base = environments.home(layout, "halves")
    base.mkdir(parents=True)
    good = {"schema": 1, "folder": "x.1", "digest": "", "python": "3", "packages": {}, "devices": [],
            "installed_at": ""}  # fmt: skip
    for text in ("", "[]", "{}", json.dumps({**good, "folder": "../x"}), json.dumps({**good, "schema": 2})):
        (base / environments.POINTER).write_text(text)
        assert environments.current(layout, "halves") is None
    (base / environments.POINTER).write_text(json.dumps(good))
    assert environments.current(layout, "halves") is not None


def test_an_interpreter_that_does_not_start(layout: Layout, spec: Callable[..., EngineSpec], tmp_path: Path) -> None:
    with pytest.raises(errors.EngineInstallFailed, match="does not start"):
        install.probe(spec(), tmp_path / "python")
    with pytest.raises(errors.EngineInstallFailed, match="No module named 'private_thing'"):
        install.probe(spec(), Path(sys.executable))
