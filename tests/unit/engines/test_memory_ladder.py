"""What is tried, in which order, when memory runs out, and what is expected to be needed."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from ironclad.engines.builtin import ironclad_engines
from ironclad.engines.contract import EngineSpec, MemoryModel, ModelSpec, PrivateEnvironment
from ironclad.engines.forecast import Case, Forecast
from ironclad.engines.ladder import Rung, rungs
from ironclad.engines.memory import Machine, resident
from ironclad.engines.parameters import Parameter, ParameterKind
from ironclad.layout import Layout

if TYPE_CHECKING:
    from pathlib import Path

(CENTER,) = ironclad_engines()
MB = 10**6
MEMORY = MemoryModel(
    base=100 * MB, per_second=MB, per_segment_second=10 * MB, segment_parameter="segment", batch_parameter="batch"
)
SPEC: EngineSpec = replace(
    CENTER, name="big", devices=("cuda", "cpu"), memory=MEMORY, sample_rate=44100,
    models=(
        ModelSpec(name="large", title="", licence="", smaller="medium"),
        ModelSpec(name="medium", title="", licence="", smaller="small", sample_rate=16000),
        ModelSpec(name="small", title="", licence="", stems=("vocals",)),
    ),
    parameters=(
        Parameter(name="segment", kind=ParameterKind.NUMBER, default=8.0, minimum=2.0),
        Parameter(name="batch", kind=ParameterKind.INTEGER, default=4, minimum=0),
    ),
)  # fmt: skip
FIRST = Rung("large", "cuda", SPEC.resolve({}))
ALL = ("segment", "batch", "cpu", "model")


def told(spec: EngineSpec, allowed: tuple[str, ...], first: Rung = FIRST, stems: tuple[str, ...] = ()) -> list[Any]:
    return [
        (rung.step, rung.device, rung.model, rung.values["segment"], rung.values["batch"])
        for rung in rungs(spec, first, allowed, stems)
    ]


def test_segments_then_batches_by_halves() -> None:
    assert told(SPEC, ("segment", "batch")) == [
        ("", "cuda", "large", 8.0, 4),
        ("segment", "cuda", "large", 4.0, 4),
        ("segment", "cuda", "large", 2.0, 4),
        ("batch", "cuda", "large", 2.0, 2),
        ("batch", "cuda", "large", 2.0, 1),
    ]


def test_nothing_is_tried_that_is_not_allowed() -> None:
    assert told(SPEC, ()) == [("", "cuda", "large", 8.0, 4)]
    assert {device for _step, device, *_ in told(SPEC, ("segment", "batch", "model"))} == {"cuda"}
    assert {model for _step, _device, model, *_ in told(SPEC, ("segment", "batch", "cpu"))} == {"large"}


def test_the_cpu_and_a_smaller_model_start_over_with_what_was_asked_for() -> None:
    # medium wants another sample rate than the one that the recording was prepared for
    tried = told(SPEC, ALL, stems=("vocals",))
    assert [entry for entry in tried if entry[0] in {"", "cpu", "model"}] == [
        ("", "cuda", "large", 8.0, 4), ("cpu", "cpu", "large", 8.0, 4), ("model", "cpu", "small", 8.0, 4),
    ]  # fmt: skip
    assert tried[-1] == ("batch", "cpu", "small", 2.0, 1)


def test_a_smaller_model_must_make_the_stems() -> None:
    assert "small" not in {model for _step, _device, model, *_ in told(SPEC, ALL, stems=("accompaniment",))}


def test_declared_values_go_first_and_count_for_what_the_engine_chooses_itself() -> None:
    spec = replace(SPEC, memory=replace(MEMORY, segments=(7.8, 5.0), batches=(8, 1)))
    first = replace(FIRST, values={"segment": 0.0, "batch": 4})
    assert [entry[3:] for entry in told(spec, ("segment", "batch"), first)] == [(0.0, 4), (7.8, 4), (5.0, 4), (5.0, 1)]
    auto = spec.memory.estimate(44100, 44100, {"segment": 0.0, "batch": 0})
    assert auto == spec.memory.estimate(44100, 44100, {"segment": 7.8, "batch": 8})


def test_what_the_engine_chooses_on_the_cpu_is_no_step_up() -> None:
    spec = replace(SPEC, memory=replace(MEMORY, segment_parameter="", batches=(8, 4, 2, 1), cpu_batch=2))
    values = {"segment": 8.0, "batch": 0}
    gpu, cpu = (told(spec, ("batch",), replace(FIRST, device=device, values=values)) for device in ("cuda", "cpu"))
    assert [entry[4] for entry in gpu] == [0, 8, 4, 2, 1]
    assert [entry[4] for entry in cpu] == [0, 1]
    assert spec.memory.estimate(44100, 44100, values) == (100 + 1 + 2 * 10) * MB
    assert spec.memory.estimate(44100, 44100, values, "cuda") == (100 + 1 + 8 * 10) * MB


def test_an_engine_without_such_parameters_has_one_rung() -> None:
    first = Rung("none", "cpu", CENTER.resolve({}))
    assert list(rungs(CENTER, first, ALL)) == [first]


def test_a_step_says_what_it_changed() -> None:
    _first, second, *_ = rungs(SPEC, FIRST, ("segment",))
    assert second.change(FIRST) == {"step": "segment", "changed": {"segment": {"from": 8.0, "to": 4.0}}}
    cpu = list(rungs(SPEC, FIRST, ("cpu",)))[-1]
    assert cpu.change(FIRST) == {"step": "cpu", "changed": {"device": {"from": "cuda", "to": "cpu"}}}


def test_a_smaller_model_that_is_not_there_is_a_contradiction() -> None:
    with pytest.raises(ValueError, match="smaller one is not there"):
        replace(SPEC, models=(ModelSpec(name="large", title="", licence="", smaller="tiny"),))


# --- the forecast ---------------------------------------------------------------------------------------------------


def case(seconds: float = 60.0, **values: Any) -> Case:
    return Case(SPEC, "large", "cpu", SPEC.resolve(values), int(seconds * 44100), 44100)


def test_without_measurements_it_is_as_declared(tmp_path: Path) -> None:
    assert Forecast(Layout(tmp_path)).predict(case()) == (100 + 60 + 320) * MB


def test_what_was_measured_here_counts_and_is_kept(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    Forecast(layout).observe(case(), 700 * MB)
    again = Forecast(layout)
    assert again.predict(case()) == 770 * MB
    assert again.predict(case(seconds=160)) == 870 * MB  # a longer one, by what is declared for a second
    assert again.predict(case(seconds=10)) == 770 * MB
    # Another batch: as declared, scaled by how far the measurement was off, and a tenth more.
    assert again.predict(case(batch=1)) == pytest.approx((100 + 60 + 80) * MB * 700 / 480 * 1.1, rel=1e-6)
    assert Forecast(layout, "another-machine").predict(case()) == 480 * MB
    other_device = replace(case(), device="cuda")
    assert again.predict(other_device) == other_device.declared


def test_what_memory_depends_on_is_kept_apart(tmp_path: Path) -> None:
    spec = replace(SPEC, memory=replace(MEMORY, apart=("segment",)))
    forecast = Forecast(Layout(tmp_path))
    long, short = (replace(case(segment=segment), spec=spec) for segment in (8.0, 2.0))
    forecast.observe(long, 900 * MB)
    assert (forecast.predict(long), forecast.predict(short)) == (990 * MB, short.declared)
    elsewhere = replace(long, variant="light")
    assert forecast.predict(elsewhere) == elsewhere.declared  # nothing is known of another environment


def test_an_environment_may_take_other_memory() -> None:
    heavy = PrivateEnvironment(name="heavy", requirements=(), memory=MemoryModel(base=7 * MB, per_second=MB))
    spec = replace(SPEC, environment=PrivateEnvironment(name="light", requirements=(), variants=(heavy,)))
    declared = {name: replace(case(), spec=spec, variant=name).declared for name in ("", "light", "heavy", "gone")}
    assert declared == {"": 480 * MB, "light": 480 * MB, "heavy": 67 * MB, "gone": 480 * MB}


def test_memory_that_depends_on_what_is_not_there_is_a_contradiction() -> None:
    with pytest.raises(ValueError, match="names a parameter that is not there"):
        replace(SPEC, memory=replace(MEMORY, apart=("backend",)))
    broken = PrivateEnvironment(requirements=(), memory=replace(MEMORY, batch_parameter="size"))
    with pytest.raises(ValueError, match="names a parameter that is not there"):
        replace(SPEC, environment=broken)


def test_an_outlier_fades(tmp_path: Path) -> None:
    forecast = Forecast(Layout(tmp_path))
    for peak in (1000 * MB, 500 * MB, 500 * MB):
        forecast.observe(case(), peak)
    (entry,) = forecast.cases().values()
    assert (entry["peak"], entry["count"]) == (810 * MB, 3)
    forecast.observe(case(), 0)  # not known
    assert next(iter(forecast.cases().values()))["count"] == 3


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"schema": 2}', '{"schema": 1, "cases": {"a": 3}}'])
def test_a_store_that_cannot_be_read_is_as_none(tmp_path: Path, content: str) -> None:
    forecast = Forecast(Layout(tmp_path), "here")
    (tmp_path / "engines").mkdir()
    (tmp_path / "engines/memory-here.json").write_text(content, encoding="utf-8")
    assert forecast.predict(case()) == 480 * MB
    forecast.observe(case(), 700 * MB)
    assert forecast.predict(case()) == 770 * MB


# --- the machine ----------------------------------------------------------------------------------------------------


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    proc, groups = tmp_path / "proc", tmp_path / "cgroup"
    (groups / "slice/unit").mkdir(parents=True)
    (proc / "self").mkdir(parents=True)
    (proc / "self/cgroup").write_text("0::/slice/unit\n", encoding="ascii")
    (proc / "meminfo").write_text("MemTotal: 8000 kB\nMemFree: 1 kB\nMemAvailable: 6000 kB\n", encoding="ascii")
    return Machine(proc, groups)


def limit(machine: Machine, group: str, most: str, current: int, caches: int = 0) -> None:
    folder = machine.cgroups / group
    (folder / "memory.max").write_text(f"{most}\n", encoding="ascii")
    (folder / "memory.current").write_text(f"{current}\n", encoding="ascii")
    (folder / "memory.stat").write_text(f"anon 1\ninactive_file {caches}\nactive_file 0\n", encoding="ascii")


def test_the_machine_alone(machine: Machine) -> None:
    assert (machine.total(), machine.available()) == (8000 << 10, 6000 << 10)


def test_the_tightest_group_around_us_counts_and_caches_can_be_dropped(machine: Machine) -> None:
    limit(machine, "slice", str(4 << 20), 3 << 20, caches=1 << 20)
    limit(machine, "slice/unit", "max", 1 << 20)
    assert (machine.total(), machine.available()) == (4 << 20, 2 << 20)
    limit(machine, "slice/unit", str(1 << 20), 1 << 20)
    assert (machine.total(), machine.available()) == (1 << 20, 1)


def test_where_nothing_is_known_nothing_is_claimed(tmp_path: Path) -> None:
    nowhere = Machine(tmp_path / "no", tmp_path / "nothing")
    assert (nowhere.total(), nowhere.available()) == (0, 0)
    assert resident(2**22 + 1) == 0
