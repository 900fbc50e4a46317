"""The contract kit itself: a good engine passes every check, and each way to break it is caught by the check for it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ironclad.engines.contract import EngineSpec, MemoryModel, ModelFile, ModelSpec, PrivateEnvironment
from ironclad.engines.separation import HostSettings
from ironclad.testing.bench import Bench
from ironclad.testing.engine_contract import CHECKS, judge
from ironclad.testing.target import Target

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.timeout(900)

MUTANTS = Path(__file__).parent / "mutants"
CAUGHT = {
    "Raises": "separates",
    "WrongShape": "shapes",
    "MissingStem": "shapes",
    "OneShort": "length",
    "WholeWindows": "length",
    "NotANumber": "finite",
    "Logarithm": "finite",
    "Hiss": "silence",
    "Dice": "deterministic",
    "Echoing": "no-memory-of-other-songs",
    "AnotherAlone": "wanted-stems-only",
    "NoSum": "exact-sum",
    "Backwards": "progress",
    "Beyond": "progress",
    "Unfinished": "progress",
    "Swallows": "cancelled-within-2-seconds",
    "Hoards": "memory-flat-in-length",
    "Leaks": "memory-flat-over-songs",
    "ResumesWrongly": "host-killed-midway",
    "Prints": "quiet",
    "DiesOfMono": "mono",
    "FailsAtSix": "six-channels",
    "RefusesEightKilohertz": "8-kHz",
    "DividesAt192Kilohertz": "192-kHz",
    "WrongError": "error-class-of-bad-samples",
    "FallsBack": "error-class-of-an-unknown-device",
    "TakesAnyWeights": "error-class-of-a-damaged-model",
}
"""Each mutant and the one check that fails."""
ALWAYS = {
    "WrongShape", "OneShort", "NotANumber", "Hiss", "Dice", "Backwards", "Swallows", "Hoards", "Prints", "WrongError",
}  # fmt: skip
"""The others are caught in `make chaos`, for the time that they take."""
LEAN = 1_000_000
"""Frames of the longest recording where no memory is looked for."""


def spec_of(name: str) -> EngineSpec:
    weights = ModelFile(path="weights", size=7, sha256="0" * 64)
    return EngineSpec(
        name=name.lower(), title=name, version="1", api_version=1, entry=f"mutant_engines:{name}",
        stems=("vocals", "rest"), memory=MemoryModel(base=1), quality="made to be caught", exact_sum=True,
        models=(ModelSpec(name="one", title="", licence="MIT", files=(weights,)),),
    )  # fmt: skip


@pytest.fixture
def verdicts(tmp_path: Path) -> Callable[[EngineSpec], dict[str, tuple[str, str]]]:
    """Puts an engine to the whole contract."""
    weights = tmp_path / "model"
    weights.mkdir()
    (weights / "weights").write_bytes(b"weights")

    def put(spec: EngineSpec) -> dict[str, tuple[str, str]]:
        target = Target(spec=spec, settings=HostSettings(search_path=(MUTANTS,)), model_folder=weights)
        long = {} if spec.name == "hoards" else {"long_frames": LEAN}
        found = {}
        with Bench(target, tmp_path, **long) as bench:
            for check in CHECKS:
                if check.name == CAUGHT["Swallows"]:
                    (weights / "waits").touch()  # it takes a tenth of a second; the cancel may take longer to arrive
                found[check.name] = judge(check, bench)
                (weights / "waits").unlink(missing_ok=True)
        return found

    return put


def broken(found: dict[str, tuple[str, str]]) -> dict[str, str]:
    return {name: text for name, (verdict, text) in found.items() if verdict == "broken"}


def test_a_good_engine_passes(verdicts: Callable[[EngineSpec], dict[str, tuple[str, str]]], tmp_path: Path) -> None:
    found = verdicts(spec_of("Good"))
    assert {name: verdict for name, verdict in found.items() if verdict[0] != "passed"} == {}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model"]


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in ALWAYS else pytest.mark.chaos) for name in sorted(CAUGHT)]
)
def test_a_mutant_is_caught_by_the_check_for_it(
    name: str, verdicts: Callable[[EngineSpec], dict[str, tuple[str, str]]]
) -> None:
    caught = broken(verdicts(spec_of(name)))
    assert list(caught) == [CAUGHT[name]], caught
    assert "\nWhat to do: " in caught[CAUGHT[name]]


def test_a_poor_declaration_is_caught(tmp_path: Path) -> None:
    spec = spec_of("Good")
    poor = (
        (replace(spec, quality=" "), "one honest sentence"),
        (replace(spec, api_version=99), "api_version is 99"),
        (replace(spec, environment=PrivateEnvironment(requirements=("numpy>=2",))), "not locked: numpy>=2"),
        (replace(spec, environment=PrivateEnvironment(requirements=("torch==2.13.0",))), "no numpy"),
    )
    (declaration,) = (check for check in CHECKS if check.name == "declaration")
    for changed, said in poor:
        with Bench(Target(spec=changed), tmp_path) as bench:
            verdict, text = judge(declaration, bench)
        assert verdict == "broken"
        assert said in text


def test_every_check_has_a_mutant() -> None:
    assert {check.name for check in CHECKS} == {*CAUGHT.values(), "declaration"}
