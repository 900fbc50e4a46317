"""The checks of what an engine makes: stems, their shape and length, their samples."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import numpy as np

from ironclad.engines.contract import PrivateEnvironment
from ironclad.errors import InputError
from ironclad.plugins.hookspecs import API_VERSION
from ironclad.testing import recordings
from ironclad.testing.bench import SHORT_FRAMES
from ironclad.testing.verdict import Broken, Check, NotJudged

if TYPE_CHECKING:
    from ironclad.testing.bench import Bench, Outcome

SILENT: Final = 1e-4
"""Largest sample that silence may become: -80 dBFS."""
_ROUNDING: Final = 2e-7
"""One rounding of a float32, relative."""
_SAME: Final = 1e-4
"""Largest difference of two runs on a GPU, whose sums come in any order."""
_PIN: Final = re.compile(r"[A-Za-z0-9._\[\],-]+==[^\s*]+(\s.*)?|-.*|#.*|\s*")


def declaration(bench: Bench) -> None:
    """What is shown to operators is there, and the environment can be built again."""
    spec = bench.target.spec
    problems = [
        (spec.api_version != API_VERSION, f"api_version is {spec.api_version}; this Ironclad offers {API_VERSION}"),
        (not spec.title.strip(), "it has no title"),
        (not spec.quality.strip(), "it has no quality: one honest sentence about its results"),
        (any(not model.licence.strip() for model in spec.models), "a model does not say its licence"),
        (spec.memory.base <= 0, "its memory model has no base: bytes of the host with the model loaded"),
    ]  # fmt: skip
    if isinstance(spec.environment, PrivateEnvironment):
        for one in spec.environment.choices:
            loose = [line for line in one.requirements if not _PIN.fullmatch(line)]
            problems.append((bool(loose), f"requirements are not locked: {', '.join(loose)}"))
            names = {re.split(r"[=\[<>~! ]", line)[0].lower() for line in one.requirements}
            problems.append(("numpy" not in names, "its requirements have no numpy, which the host needs"))
    if found := [text for broken, text in problems if broken]:
        raise Broken("; ".join(found), "complete the EngineSpec in the plugin's module (docs/hooks.md has every field)")


def separates(bench: Bench) -> None:
    """A plain recording is separated. What is wrong with the stems is for the next checks to say."""
    base = bench.base()
    if base.error is not None and not {"shape", "length", "finite"} & base.notes.keys():
        raise Broken(
            f"six seconds of music: {base.said()}",
            "start with `load` and `separate` of the class that `EngineSpec.entry` names; a module that is missing "
            "belongs into the environment's requirements",
        )


def shapes(bench: Bench) -> None:
    """Each block has every stem wanted, float32 `(channels, frames)`."""
    note = _base_note(bench, "shape")
    if note:
        raise Broken(
            note, "give `sinks.write` one array for each stem of `sinks.wanted`, all with the mixture's channels and "
            "the same number of frames",
        )  # fmt: skip


def length(bench: Bench) -> None:
    """As many samples as the mixture has, whatever their number is."""
    advice = (
        "write exactly `reader.frames` frames of each stem: cut off what padding added, and write what is left in "
        "the last window"
    )
    if note := _base_note(bench, "length"):
        raise Broken(note, advice)
    bench.sound()
    rate = bench.target.rate
    for frames in (1, 997, rate + 1, 2 * rate - 1):
        made = bench.separate(bench.music(frames))
        if isinstance(made.error, InputError) and frames < rate:
            continue  # too short for it, and it says so
        if made.error is not None:
            raise Broken(f"{frames} frames: {made.said()}", advice)
        bench.forget(made)


def finite(bench: Bench) -> None:
    """No NaN, no infinity: not with music, not at full scale, not with impulses and denormal numbers."""
    advice = "guard divisions and logarithms with a small constant; a framework's NaN comes from its input"
    if note := _base_note(bench, "finite"):
        raise Broken(note, advice)
    bench.sound()
    target = bench.target
    extreme = bench.written("extremes", recordings.extremes(target.spec.channels, target.rate))
    made = bench.separate(extreme)
    if made.error is not None:
        found = made.notes.get("finite") or made.said()
        raise Broken(f"full scale, four times that, an impulse, an offset, denormal numbers: {found}", advice)
    bench.forget(made)


def silence(bench: Bench) -> None:
    """Silence in, silence out."""
    bench.sound()
    target = bench.target
    nothing = np.zeros((target.spec.channels, target.rate * 3 // 2), np.float32)
    made = bench.separate(bench.written("silence", nothing))
    if isinstance(made.error, InputError):
        return  # it refuses silence, which is an answer
    advice = "where the mixture is silent, write zeros; do not divide by its level"
    if made.error is not None:
        raise Broken(f"1.5 s of silence: {made.said()}", advice)
    peaks = {stem: float(np.abs(made.stem(stem)).max()) for stem in made.digests}
    loud = {stem: peak for stem, peak in peaks.items() if peak > SILENT}
    if loud:
        raise Broken(
            f"1.5 s of silence became {', '.join(f'{k} with a peak of {v:.2g}' for k, v in loud.items())}", advice
        )


def deterministic(bench: Bench) -> None:
    """The same samples for the same recording, in another process."""
    one, other = bench.sound(), bench.first()
    if other.error is not None:
        raise Broken(f"the same recording on a second host: {other.said()}", "it worked on the first one")
    if difference := _difference(bench, one, other):
        raise Broken(
            f"the same recording on two hosts: stems differ by up to {difference:.2g}",
            "seed every random generator from a parameter (as `seed`), and let nothing depend on time, on hashes, on "
            "the order of sets or on what a benchmark finds",
        )


def no_memory_of_songs(bench: Bench) -> None:
    """A recording's stems do not depend on the one before it: hosts stay warm."""
    one = bench.sound()
    if bench.first().error is not None or _difference(bench, one, bench.first()):
        raise NotJudged("the engine is not deterministic; see `deterministic`")
    other = bench.separate(bench.music(SHORT_FRAMES // 4, seed=2))
    again = bench.separate(bench.music(one.recording.frames))
    bench.forget(other)
    difference = None if again.error is not None else _difference(bench, one, again)
    bench.forget(again)
    if again.error is not None or difference:
        found = again.said() if difference is None else f"stems differ by up to {difference:.2g}"
        raise Broken(
            f"a recording, another one, and the first again on a warm host: {found}",
            "keep nothing of a recording in the object: all that `separate` needs are its arguments and the model",
        )


def wanted_only(bench: Bench) -> None:
    """If one stem is asked for, it is the one that comes with all of them."""
    base = bench.sound()
    if len(bench.target.stems) == 1:
        raise NotJudged("the engine makes one stem")
    stem = bench.target.stems[-1]
    made = bench.separate(bench.music(base.recording.frames), stems=(stem,))
    if made.error is not None:
        raise Broken(f"{stem} alone: {made.said()}", "`sinks.wanted` has the stems asked for; write at least those")
    difference = float(np.abs(made.stem(stem) - base.stem(stem)).max())
    bench.forget(made)
    if difference > _SAME:
        raise Broken(
            f"{stem} alone is not {stem} of all stems: they differ by up to {difference:.2g}",
            "leave out work for stems that are not wanted only where the others do not depend on it",
        )


def exact_sum(bench: Bench) -> None:
    """Where `exact_sum` is declared, the stems sum to the mixture."""
    base = bench.sound()
    if not bench.target.spec.exact_sum:
        raise NotJudged("exact_sum is not declared")
    mixture = base.recording.samples()
    total = sum((base.stem(stem) for stem in bench.target.stems), start=np.zeros_like(mixture))
    error = float(np.abs(total - mixture).max())
    if error > _ROUNDING * max(1.0, float(np.abs(mixture).max())):
        raise Broken(
            f"the stems sum to something that is up to {error:.2g} from the mixture",
            "make the last stem the mixture minus the others, or do not declare exact_sum",
        )


def _base_note(bench: Bench, kind: str) -> str:
    """What was noted of the base. Raises `NotJudged` if it failed of something else."""
    base = bench.base()
    if note := base.notes.get(kind):
        return str(note)
    if base.error is not None:
        raise NotJudged("the engine does not separate a plain recording yet; see the checks that fail")
    return ""


def _difference(bench: Bench, one: Outcome, other: Outcome) -> float:
    """The largest difference of two runs' stems; 0 for the same bytes, and for next to nothing on a GPU."""
    if one.digests == other.digests:
        return 0.0
    largest = max(float(np.abs(one.stem(stem) - other.stem(stem)).max()) for stem in one.digests)
    return 0.0 if bench.target.device != "cpu" and largest <= _SAME else max(largest, 1e-9)


CHECKS: Final = (
    Check("declaration", declaration),
    Check("separates", separates),
    Check("shapes", shapes),
    Check("length", length),
    Check("finite", finite),
    Check("silence", silence),
    Check("deterministic", deterministic),
    Check("no-memory-of-other-songs", no_memory_of_songs),
    Check("wanted-stems-only", wanted_only),
    Check("exact-sum", exact_sum),
)
