"""What became of a demo song, measured: is its instrumental there, whole, tagged, and better than nothing?"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import soundfile

from ironclad.audio import compare
from ironclad.audio.decode import decode
from ironclad.audio.info import AudioLimits
from ironclad.audio.pcm import PcmFile
from ironclad.metadata.read import read
from ironclad.stages.organize import RECEIPT_SUFFIX

if TYPE_CHECKING:
    from ironclad.audio.synth import DemoSong
    from ironclad.cli.results import Result

LEAST_GAIN_DB: Final = 3.0
"""How much better than the mixture the instrumental must be; the centre engine reaches far more on these songs."""
_KIND: Final = "instrumental"


@dataclass(frozen=True, slots=True)
class Measured:
    """One song."""

    title: str
    state: str
    path: Path | None = None
    receipt: dict[str, Any] | None = None
    mixture_sdr_db: float | None = None
    """How far the mixture is from the true accompaniment, in dB."""
    sdr_db: float | None = None
    """How far the instrumental is from it."""
    problems: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "title": self.title, "state": self.state, "path": None if self.path is None else str(self.path),
            "receipt": self.receipt, "mixture_sdr_db": self.mixture_sdr_db, "sdr_db": self.sdr_db,
            "problems": list(self.problems),
        }  # fmt: skip


def measure(song: DemoSong, result: Result | None, folder: Path) -> Measured:
    """Compare a song's instrumental with the truth. `folder` is for scratch files."""
    title = song.tags.title
    if result is None:
        return Measured(title, "missing", problems=("it never became a job",))
    output = next((Path(one.path) for one in result.outputs if one.kind == _KIND), None)
    if output is None or not output.is_file():
        said = "" if result.error is None else f" ({result.error.get('code')}: {result.error.get('detail')})"
        return Measured(title, result.state, problems=(f"there is no instrumental{said}",))
    problems = _tag_problems(song, output, folder)
    receipt = _receipt(output)
    if receipt is None:
        problems.append("its receipt is missing")
    elif not receipt.get("same_length") or receipt.get("offset_samples") != 0:
        problems.append("its receipt says that length or offset are wrong")
    pcm = folder / f"{song.path.stem}.f32"
    decoded = decode(output, pcm, AudioLimits())
    if (decoded.frames, decoded.sample_rate) != (song.frames, song.rate):
        problems.append(
            f"it has {decoded.frames} samples at {decoded.sample_rate} Hz, not {song.frames} at {song.rate}"
        )
        return Measured(title, result.state, output, receipt, problems=tuple(problems))
    truth = soundfile.read(song.stems["accompaniment"], dtype="float32", always_2d=True)[0]
    mixture = soundfile.read(song.mixture, dtype="float32", always_2d=True)[0]
    before = compare.sdr_db(truth, mixture)
    after = compare.sdr_db(truth, PcmFile(pcm, decoded.frames, decoded.channels, decoded.sample_rate))
    if after < before + LEAST_GAIN_DB:
        problems.append(f"its SDR is {after:.1f} dB, that of the mixture {before:.1f} dB")
    return Measured(title, result.state, output, receipt, round(before, 2), round(after, 2), tuple(problems))


def _receipt(output: Path) -> dict[str, Any] | None:
    try:
        data = json.loads(output.with_name(output.name + RECEIPT_SUFFIX).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return data if isinstance(data, dict) else None


def _tag_problems(song: DemoSong, output: Path, folder: Path) -> list[str]:
    pictures = folder / f"{song.path.stem}.pictures"
    pictures.mkdir()
    found = read(output, pictures)
    problems = []
    if song.tags.title not in (found.tags.title or ""):
        problems.append(f"its title is {found.tags.title!r}")
    if song.tags.artist not in found.tags.artists:
        problems.append(f"its artists are {', '.join(found.tags.artists) or 'missing'}")
    if song.tags.album not in (found.tags.album or ""):
        problems.append(f"its album is {found.tags.album!r}")
    if found.tags.track != song.tags.track:
        problems.append(f"its track number is {found.tags.track}")
    if not found.pictures:
        problems.append("it has no cover art")
    return problems
