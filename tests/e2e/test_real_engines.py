"""Real weights on real music, from the engine's own environment to the published file.

`IRONCLAD_TEST_MODELS` names a folder with the weights (`demucs/repo/` as `demucs --repo` takes it), `make engines-real`
sets `IRONCLAD_TEST_ENGINES`, a data folder in which the engines are installed once and kept.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soundfile
from clip import RATE, stems

from ironclad import errors
from ironclad.config import load
from ironclad.engines import choice, environments
from ironclad.engines.client import EngineHost
from ironclad.engines.separation import HostSettings, SeparationRequest

if TYPE_CHECKING:
    from numpy.typing import NDArray

MODELS = os.environ.get("IRONCLAD_TEST_MODELS", "")
ENGINES = os.environ.get("IRONCLAD_TEST_ENGINES", "")
PLUGINS = {entry.name for entry in metadata.entry_points(group="ironclad")}
MEASURED = slice(int(0.2 * RATE), 6 * RATE)
"""Seconds 0.2 to 6.0: there is a sync click before and after."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not MODELS, reason="IRONCLAD_TEST_MODELS names no folder with weights"),
    pytest.mark.skipif(not ENGINES, reason="IRONCLAD_TEST_ENGINES names no data folder; run `make engines-real`"),
]

STOCK = {"drums": 10.92, "bass": 3.35, "other": 0.76, "vocals": 5.29, "instrumental": 12.11}
"""SDR in dB of demucs 4.1.0's own `apply_model` (htdemucs, shifts=0) on the decoded clip, measured with the same
weights; the instrumental is its drums + bass + other."""


def ironclad(*words: str) -> Any:
    """What a command prints as JSON."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("IRONCLAD_")}
    environ |= {"IRONCLAD_DATA_DIR": str(Path(ENGINES).absolute()), "IRONCLAD_POOLS": '{"cpu": {"slots": 1}}'}
    command = [sys.executable, "-m", "ironclad.cli.main", *words, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, env=environ, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def sdr(truth: NDArray[np.float32], estimate: NDArray[np.float32]) -> float:
    """10·log10 of the energy of the truth over that of the error, in dB."""
    s, e = truth[MEASURED].astype(np.float64), estimate[MEASURED].astype(np.float64)
    return float(10 * np.log10((s**2).sum() / ((s - e) ** 2).sum()))


@pytest.fixture(scope="module")
def demucs() -> None:
    if "demucs" not in PLUGINS:
        pytest.skip("the plugin ironclad-engine-demucs is not installed")
    repository = Path(MODELS, "demucs/repo")
    if not repository.is_dir():
        pytest.skip(f"{repository} is not there")
    ironclad("engines", "install", "demucs")
    # The test weights have the published numbers in another wrapping, hence another digest.
    ironclad("models", "import", "demucs", "htdemucs", str(repository), "--accept-licence", "--pin")


def test_demucs_is_as_good_as_demucs(demucs: None, tmp_path: Path) -> None:
    truth = stems()
    song = tmp_path / "song.wav"
    soundfile.write(song, truth["mixture"], RATE, subtype="FLOAT")
    names = ("instrumental", "vocals", "drums", "bass", "other")
    words = ["process", str(song), "-e", "demucs", "-f", "wav", "-o", str(tmp_path / "out"), "--force"]
    result = ironclad(*words, "--stems", ",".join(names))
    assert result["failed"] == 0
    truth["instrumental"] = truth["drums"] + truth["bass"] + truth["other"]
    found: dict[str, float] = {}
    for name in names:
        made = tmp_path / "out" / f"song ({name.title()}).wav"
        receipt = json.loads(Path(f"{made}.receipt.json").read_text(encoding="utf-8"))
        assert (receipt["engine"], receipt["model"], receipt["offset_samples"]) == ("demucs", "htdemucs", 0)
        samples = soundfile.read(made, dtype="float32")[0]
        assert samples.shape == truth["mixture"].shape
        found[name] = sdr(truth[name], samples / 10 ** (receipt["gain_db"] / 20))
    assert {name: value for name, value in found.items() if value < STOCK[name] - 0.05} == {}, found


def test_the_environment_is_checked_where_it_runs(demucs: None) -> None:
    report = ironclad("engines", "check", "demucs")
    assert report["packages"]["torch"].startswith("2.13.0")
    assert report["devices"][-1] == "cpu"
    assert (report["models"], report["problems"]) == (["htdemucs"], [])
    assert "torch" not in {dist.metadata["Name"] for dist in metadata.distributions()}


PLUGIN = Path(__file__).parents[2] / "plugins/ironclad-engine-demucs"
TINY = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import tiny
from demucs.htdemucs import HTDemucs
tiny.write_safetensors(Path(sys.argv[2]), tiny.stirred(HTDemucs(**tiny.TINY), 1))
"""
TINY_RATE = 8000


@pytest.fixture(scope="module")
def tiny_host(demucs: None, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Starts hosts of a small random network of 8 kHz, imported as an operator's own model."""
    layout = load({"data_dir": Path(ENGINES).absolute()}, {}).layout
    built = environments.current(layout, "demucs")
    assert built is not None
    network = tmp_path_factory.mktemp("tiny") / "tiny0001.safetensors"
    subprocess.run([built.interpreter, "-I", "-c", TINY, str(PLUGIN / "tests"), str(network)], check=True)
    ironclad("models", "import", "demucs", "tiny", str(network), "--accept-licence", "--pin")

    def start(**changes: Any) -> EngineHost:
        engine = choice.of_job(layout, "demucs", {"model": "tiny"})
        ready = choice.ready(layout, engine)
        return EngineHost(
            engine.spec, model="tiny", interpreter=ready.interpreter, model_folder=ready.folder,
            settings=HostSettings(**changes),
        ).start()  # fmt: skip

    yield start
    ironclad("models", "remove", "demucs", "tiny")


def request(folder: Path, seconds: int) -> SeparationRequest:
    """So much noise at the tiny network's rate."""
    folder.mkdir()
    (folder / "out").mkdir()
    second = np.random.default_rng(0).uniform(-0.5, 0.5, (TINY_RATE, 2)).astype("<f4").tobytes()
    with (folder / "mix.f32").open("wb") as file:
        for _ in range(seconds):
            file.write(second)
    return SeparationRequest(
        input=folder / "mix.f32", frames=seconds * TINY_RATE, channels=2, rate=TINY_RATE, output=folder / "out"
    )


def test_memory_does_not_grow_with_the_length(tiny_host: Any, tmp_path: Path) -> None:
    peaks = []
    for minutes in (1, 20):
        with tiny_host() as host:
            made = host.separate(request(tmp_path / str(minutes), minutes * 60))
            assert {stem.frames for stem in made.stems.values()} == {minutes * 60 * TINY_RATE}
            peaks.append(host.stats().peak_rss)
    assert peaks[1] / peaks[0] <= 1.1, peaks


def test_a_host_without_enough_memory_says_so(tiny_host: Any, tmp_path: Path) -> None:
    with pytest.raises(errors.OutOfMemory):
        tiny_host(memory_bytes=150 << 20)


def test_a_cancelled_separation_ends_soon_and_the_host_takes_the_next(tiny_host: Any, tmp_path: Path) -> None:
    with tiny_host() as host:

        def stop(_step: Any) -> None:
            raise errors.Cancelled

        with pytest.raises(errors.Cancelled):
            host.separate(request(tmp_path / "long", 600), progress=stop)
        assert host.alive
        assert not list((tmp_path / "long/out").iterdir())
        assert set(host.separate(request(tmp_path / "next", 2)).stems) == {"drums", "bass", "other", "vocals"}


def test_a_flipped_bit_in_the_weights_is_refused(tiny_host: Any) -> None:
    path = Path(ENGINES, "models/demucs/tiny/tiny0001.safetensors")
    data = bytearray(path.read_bytes())
    data[-100] ^= 1
    path.write_bytes(data)
    try:
        with pytest.raises(errors.ModelMismatch, match="SHA-256"):
            tiny_host()
    finally:
        data[-100] ^= 1
        path.write_bytes(data)
