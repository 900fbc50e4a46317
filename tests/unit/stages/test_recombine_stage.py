"""recombine on stems made here: what is mixed, how loud, and what the receipts say. No database, no engine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast
from uuid import uuid4

import mutagen
import numpy as np
import pytest

from ironclad.audio.decode import decode
from ironclad.audio.info import AudioInfo, AudioLimits
from ironclad.audio.pcm import PcmWriter
from ironclad.config import load
from ironclad.db.tables import Job
from ironclad.errors import BadRequest
from ironclad.jobs import pipeline
from ironclad.library import naming
from ironclad.metadata.derive import path_fields
from ironclad.metadata.model import TrackTags
from ironclad.metadata.read import Reading
from ironclad.stages import recombine, tagging
from ironclad.stages.context import StageContext, StageOutput

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    Samples = NDArray[np.float32]
    Run = Callable[..., "Made"]

RATE = 44_100
FRAMES = RATE
TAGS = TrackTags(title="Blue", artists=("Ana",), album="Colours", album_artists=("Ana",), track=1)


def noise(seed: int, level: float = 0.1) -> Samples:
    return (np.random.default_rng(seed).standard_normal((FRAMES, 2)) * level).astype(np.float32)


STEMS = {name: noise(seed) for seed, name in enumerate(("vocals", "drums", "bass"))}
INFO = AudioInfo(
    family="wav", container="wav", codec="pcm_f32le", lossless=True, sample_rate=RATE, channels=2,
    declared_frames=FRAMES, duration=1.0, bits_per_sample=32, bit_rate=None,
)  # fmt: skip
LOST = noise(9, 0.003)
"""What no stem holds: 30 dB below the mixture."""


class Made:
    """What the stage made: samples and receipt by kind."""

    def __init__(self, context: StageContext, data: Any) -> None:
        self.context, self.data = context, data
        self.receipts = {one["kind"]: one["receipt"] for one in data["files"]}

    def file(self, kind: str) -> Path:
        return self.context.folder / next(one["file"] for one in self.data["files"] if one["kind"] == kind)

    def samples(self, kind: str) -> Samples:
        scratch = self.context.folder.parent / "again.f32"
        decode(self.file(kind), scratch, AudioLimits())
        return np.fromfile(scratch, "<f4").reshape(-1, 2)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """`run(stems, wanted, options, **settings)`."""

    def stored(folder: Path, name: str, samples: Samples, rate: int) -> dict[str, Any]:
        folder.mkdir(exist_ok=True)
        with PcmWriter(folder / f"{name}.f32", 2, rate) as writer:
            writer.write(samples)
            writer.finish()
        return {"file": f"{name}.f32", "frames": len(samples), "channels": 2, "sample_rate": rate, "peak": 1.0}

    def go(
        stems: dict[str, Samples], *wanted: str, mixture: Samples | None = None, asked: dict[str, Any] | None = None,
        rate: int = RATE, output: str = "wav", **recombining: str,
    ) -> Made:  # fmt: skip
        environ = {f"IRONCLAD_RECOMBINE__{name.upper()}": value for name, value in recombining.items()}
        settings = load(environ={"IRONCLAD_DATA_DIR": str(tmp_path / "data"), **environ})
        whole = sum(stems.values()) + LOST if mixture is None else mixture
        shape = stored(tmp_path / "stage", "mixture", cast("Samples", whole), rate)
        reading = Reading("WAV", TAGS, ())
        outputs = {
            "validate": {"decoded": {"frames": FRAMES, "sample_rate": rate}, "info": INFO.to_dict()},
            "categorize": {"category": "music"},
            "metadata": {"reading": reading.to_dict(), "picture_changes": []},
            "stage": {"mixture": shape, "engine": shape},
            "separate": {
                "engine": "test", "version": "1", "model": "none", "model_digest": None, "parameters": {},
                "stems": {name: stored(tmp_path / "separate", name, samples, rate) for name, samples in stems.items()},
            },
        }  # fmt: skip
        job = Job(
            job_uuid=uuid4(), user_id="ana", trace_id="t", state="running", stage="recombine", pool="cpu",
            source_path="a.wav", source_path_raw=b"a.wav", source_size=1, source_mtime_ns=1, relative_path="a.wav",
            ingest_mode="copy", archive_name="original.wav", content_hash="a", engine="test", output_format=output,
            stems=list(wanted), options={pipeline.MIXING: asked} if asked else {},
        )  # fmt: skip
        folder = tmp_path / "recombine"
        folder.mkdir()
        nothing = cast("Any", None)  # no publishing, engine, database or history here
        context = StageContext(
            job=job, settings=settings, layout=settings.layout, source=tmp_path, folder=folder, partial=tmp_path,
            outputs={name: StageOutput(tmp_path / name, data, name) for name, data in outputs.items()},
            progress=lambda _fraction, _message: None, check=lambda: None, library=nothing, log=nothing, note=nothing,
            hosts=nothing, database=nothing,
        )  # fmt: skip
        return Made(context, recombine.run(context).data)

    return go


def test_the_instrumental_is_the_mixture_without_the_vocals(run: Run) -> None:
    made = run(STEMS, "instrumental", "vocals")
    expected = STEMS["drums"] + STEMS["bass"] + LOST
    assert np.abs(made.samples("instrumental") - expected).max() < 1e-4
    receipt = made.receipts["instrumental"]
    assert (receipt["recipe"], receipt["gain_db"], receipt["clipped_samples"]) == ("mixture - vocals", 0, 0)
    assert receipt["residual_db"] == made.receipts["vocals"]["residual_db"] == pytest.approx(-35.2, abs=0.5)


def test_or_the_sum_of_the_other_stems(run: Run) -> None:
    made = run(STEMS, "instrumental", instrumental="sum-of-stems")
    assert np.abs(made.samples("instrumental") - STEMS["drums"] - STEMS["bass"]).max() < 1e-4
    assert made.receipts["instrumental"]["recipe"] == "drums + bass"
    assert made.receipts["instrumental"]["residual_db"] < -30


def test_a_job_may_ask_for_another_way_than_the_settings(run: Run) -> None:
    asked = {"instrumental": "sum-of-stems", "karaoke_db": 0.0}
    made = run(STEMS, "karaoke", asked=asked, karaoke_db="-20")
    assert np.abs(made.samples("karaoke") - sum(STEMS.values())).max() < 1e-4
    assert made.receipts["karaoke"]["recipe"] == "drums + bass + vocals"


def test_karaoke_has_quiet_vocals_and_a_name_of_its_own(run: Run) -> None:
    made = run(STEMS, "karaoke", "instrumental")
    vocals = made.samples("karaoke") - made.samples("instrumental")
    assert np.abs(vocals - 10 ** (-12 / 20) * STEMS["vocals"]).max() < 1e-4
    assert made.receipts["karaoke"]["bleed_db"] is None
    tags = mutagen.File(made.file("karaoke"))
    assert (str(tags["TIT2"]), str(tags["TALB"])) == ("Blue (Karaoke)", "Colours (Karaoke)")
    fields = path_fields(TAGS, tagging.derivation(made.context, "karaoke"))
    place = naming.PathTemplate(naming.DEFAULT_TEMPLATE).render(naming.track_name(fields), ".flac")
    assert str(place) == "Ana/Colours (Karaoke)/01 - Blue (Karaoke).flac"


def test_subsets_and_complements(run: Run) -> None:
    made = run(STEMS, "bass+drums", "no_drums")
    assert np.abs(made.samples("bass+drums") - STEMS["bass"] - STEMS["drums"]).max() < 1e-4
    assert np.abs(made.samples("no_drums") - STEMS["bass"] - STEMS["vocals"] - LOST).max() < 1e-4
    assert str(mutagen.File(made.file("bass+drums"))["TIT2"]) == "Blue (Bass + Drums)"
    assert str(mutagen.File(made.file("no_drums"))["TIT2"]) == "Blue (No Drums)"
    assert made.receipts["no_drums"]["recipe"] == "mixture - drums"


def test_what_cannot_be_made_is_refused_before_anything_is_written(run: Run, tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match="piano"):
        run(STEMS, "vocals", "piano")
    assert [path.name for path in (tmp_path / "recombine").iterdir()] == ["scratch"]


def test_one_gain_keeps_all_files_of_a_loud_song_from_clipping(run: Run) -> None:
    loud = {name: samples * 8 for name, samples in STEMS.items()}
    made = run(loud, "instrumental", "vocals", "karaoke", mixture=cast("Samples", sum(loud.values())))
    (gain,) = {receipt["gain_db"] for receipt in made.receipts.values()}
    assert gain < -6
    assert max(receipt["sample_peak_db"] for receipt in made.receipts.values()) == pytest.approx(-0.1, abs=0.01)
    assert all(one["clipped_samples"] == 0 and one["true_peak_db"] is not None for one in made.receipts.values())
    total = made.samples("instrumental") + made.samples("vocals")
    assert np.abs(total - sum(loud.values()) * 10 ** (gain / 20)).max() < 2e-4


def test_true_peaks_can_be_the_measure(run: Run) -> None:
    # A quarter of the sampling rate at 45 degrees: the samples stay 3 dB below the wave's crest.
    wave = 0.95 * np.sqrt(2) * np.sin(np.arange(FRAMES) * np.pi / 2 + np.pi / 4)
    crest = np.stack([wave, -wave], 1).astype(np.float32)
    made = run({"vocals": crest, "accompaniment": np.zeros_like(crest)}, "vocals", mixture=crest, peak="true")
    assert made.receipts["vocals"]["true_peak_db"] == pytest.approx(-1.0, abs=0.1)
    assert (
        -4.6 < made.receipts["vocals"]["gain_db"] < -3.4
    )  # 2.6 dB above full scale, and where it begins a little more


def test_a_deep_bass_passes_the_check_of_opus(run: Run) -> None:
    """The encoder's high-pass at 3 Hz moves the phase of 40 Hz by 14 frames; that is no shift of the recording."""
    tone = 0.5 * np.sin(2 * np.pi * 40 * np.arange(FRAMES) / 48_000)
    deep = np.stack([tone, tone], axis=1).astype(np.float32) + noise(4, 0.0001)
    made = run({"vocals": noise(3), "bass": deep}, "bass", rate=48_000, output="opus")
    assert made.receipts["bass"]["offset_samples"] == 0
    assert len(made.samples("bass")) == FRAMES
