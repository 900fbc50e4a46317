from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from ironclad.engines.builtin import ironclad_engines
from ironclad.engines.contract import (
    EngineSpec,
    MemoryModel,
    ModelFile,
    ModelSpec,
    PrivateEnvironment,
    pool_of,
)
from ironclad.engines.parameters import Parameter, ParameterKind
from ironclad.errors import BadRequest, NotFound

WEIGHTS = ModelFile(path="a.safetensors", size=10, sha256="a" * 64)
TINY = ModelSpec(name="m", title="", licence="")
SEGMENT = Parameter(name="segment", kind=ParameterKind.NUMBER, default=7.8, minimum=1, affects_result=False)
BATCH = Parameter(name="batch", kind=ParameterKind.INTEGER, default=1, minimum=1, affects_result=False)
SHIFTS = Parameter(name="shifts", kind=ParameterKind.INTEGER, default=0)


def demucs_like(**changes: Any) -> EngineSpec:
    """What a big engine will declare: several models with stems of their own, a GPU, an environment."""
    fields: dict[str, Any] = {
        "name": "demucs", "title": "Demucs", "version": "4.1", "api_version": 1, "entry": "pkg.mod:Separator",
        "stems": ("drums", "bass", "other", "vocals"), "sample_rate": 44100, "devices": ("cuda", "cpu"),
        "models": (
            ModelSpec(name="htdemucs", title="HT", licence="MIT", files=(WEIGHTS,)),
            ModelSpec(
                name="htdemucs_6s", title="6", licence="MIT", sample_rate=48000, memory=MemoryModel(base=7),
                stems=("drums", "bass", "other", "vocals", "guitar", "piano"),
            ),
        ),
        "parameters": (SEGMENT, BATCH, SHIFTS),
        "memory": MemoryModel(
            base=100, per_second=2, per_segment_second=10, segment_parameter="segment", batch_parameter="batch"
        ),
        "environment": PrivateEnvironment(requirements=("torch==2.13.0",), python=">=3.11,<3.13"),
    }  # fmt: skip
    return EngineSpec(**{**fields, **changes})


def test_devices_say_which_pools_can_run_it() -> None:
    assert demucs_like().pools == ("gpu", "cpu")
    assert demucs_like(devices=("cuda", "mps")).pools == ("gpu",)
    assert [pool_of(device) for device in ("cpu", "cuda:1", "mps")] == ["cpu", "gpu", "gpu"]


def test_a_model_may_differ_from_its_engine() -> None:
    spec = demucs_like()
    assert spec.model().name == "htdemucs"
    assert spec.stems_of() == spec.stems
    assert spec.stems_of("htdemucs_6s")[-1] == "piano"
    assert (spec.sample_rate_of(), spec.sample_rate_of("htdemucs_6s")) == (44100, 48000)
    with pytest.raises(NotFound, match="has no model 'mdx'; it has htdemucs, htdemucs_6s"):
        spec.model("mdx")


def test_memory_follows_length_segment_and_batch() -> None:
    spec = demucs_like()
    assert spec.memory_for(44100 * 60, 44100) == 100 + 120 + 78
    assert spec.memory_for(44100 * 60, 44100, values={"segment": 4, "batch": 2}) == 100 + 120 + 80
    assert spec.memory_for(44100 * 60, 44100, model="htdemucs_6s") == 7


def test_the_result_key_changes_with_what_changes_samples_and_nothing_else() -> None:
    spec = demucs_like()
    key = spec.result_key("", spec.resolve({}))
    assert key == spec.result_key("htdemucs", spec.resolve({"segment": 2, "batch": 8}))
    assert key["parameters"] == {"shifts": 0}
    assert key != spec.result_key("", spec.resolve({"shifts": 1}))
    assert key != spec.result_key("htdemucs_6s", spec.resolve({}))
    assert key != demucs_like(version="4.2").result_key("", spec.resolve({}))
    flipped = replace(WEIGHTS, sha256="b" * 64)
    other = demucs_like(models=(ModelSpec(name="htdemucs", title="HT", licence="MIT", files=(flipped,)),))
    assert key != other.result_key("", spec.resolve({}))


def test_wanted_stems_come_in_the_models_order_and_unknown_ones_are_named() -> None:
    spec = demucs_like()
    assert spec.check_stems(()) == spec.stems
    assert spec.check_stems(("vocals", "drums")) == ("drums", "vocals")
    with pytest.raises(BadRequest, match="not kazoo"):
        spec.check_stems(("vocals", "kazoo"))


def test_parameters_typed_as_text_are_checked_together() -> None:
    assert demucs_like().parse({"shifts": "2"})["shifts"] == 2
    with pytest.raises(BadRequest, match=r"shifts must be a number, not 'two'; nope is not"):
        demucs_like().parse({"shifts": "two", "nope": "1"})


def test_an_environments_digest_is_that_of_its_lock() -> None:
    one = PrivateEnvironment(requirements=("a==1", "b==2"))
    assert one.digest == PrivateEnvironment(requirements=("a==1", "b==2")).digest
    assert one.digest != PrivateEnvironment(requirements=("a==1", "b==3")).digest
    assert one.digest != PrivateEnvironment(requirements=("a==1", "b==2"), python=">=3.12").digest


CHOICES = PrivateEnvironment(
    name="large", title="everything", requirements=("framework==1",),
    variants=(PrivateEnvironment(name="small", title="less", requirements=("runtime==1",), python=">=3.12"),),
)  # fmt: skip


def test_an_engine_can_offer_environments_to_choose_from() -> None:
    spec = demucs_like(environment=CHOICES, converter="pkg.convert:run", converter_variant="large")
    assert [one.name for one in CHOICES.choices] == ["large", "small"]
    assert CHOICES.variant("small").requirements == ("runtime==1",)
    with pytest.raises(NotFound, match="there is: large, small"):
        CHOICES.variant("tiny")
    assert CHOICES.digest == replace(CHOICES, variants=()).digest
    data = spec.to_dict()
    assert data["variants"] == [
        {"name": "large", "title": "everything", "python": ">=3.11"},
        {"name": "small", "title": "less", "python": ">=3.12"},
    ]
    assert data["converts"] is True
    assert demucs_like().to_dict()["variants"] == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "De mucs"}, "the name"),
        ({"entry": "pkg.mod"}, "module:callable"),
        ({"stems": ()}, "no stems"),
        ({"stems": ("a", "a")}, "stem is named twice"),
        ({"stems": ("../vocals",)}, "stem names"),
        ({"models": ()}, "no model"),
        ({"models": (TINY, TINY)}, "a model is named twice"),
        ({"models": (replace(TINY, name="../m"),)}, "model names"),
        ({"models": (replace(TINY, files=(replace(WEIGHTS, sha256="?"),)),)}, "SHA-256"),
        ({"models": (replace(TINY, files=(replace(WEIGHTS, path="../x"),)),)}, "path or size"),
        ({"models": (replace(TINY, files=(replace(WEIGHTS, path="/x"),)),)}, "path or size"),
        ({"models": (replace(TINY, files=(replace(WEIGHTS, size=-1),)),)}, "path or size"),
        ({"parameters": (SEGMENT, BATCH, BATCH)}, "parameter is named twice"),
        ({"parameters": (SEGMENT,)}, "memory model names a parameter"),
        ({"devices": ()}, "no device"),
        ({"channels": 0}, "no channel"),
        ({"converter": "pkg.mod"}, "the converter"),
        ({"converter": "pkg.mod:make", "converter_variant": "small"}, "which it does not have"),
        ({"environment": replace(CHOICES, name="small")}, "have one name"),
    ],
)  # fmt: skip
def test_contradictions_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        demucs_like(**changes)


def test_all_contradictions_are_named_at_once() -> None:
    with pytest.raises(ValueError, match=r"the name .*module:callable.*no device"):
        demucs_like(name="X Y", entry="?", devices=())


def test_the_declaration_is_json() -> None:
    data = json.loads(json.dumps(demucs_like().to_dict()))
    assert data["private_environment"] is True
    assert data["models"][1]["stems"][-1] == "piano"
    assert data["models"][0]["bytes"] == 10


def test_the_built_in_engine_is_honest_and_needs_nothing() -> None:
    (spec,) = ironclad_engines()
    assert spec.quality == "basic quality; install Demucs for real work"
    assert (spec.stems, spec.pools, spec.exact_sum) == (("vocals", "accompaniment"), ("cpu",), True)
    assert spec.resolve({})["sharpness"] == 8.0
    assert spec.memory_for(44100 * 3600, 44100) == spec.memory_for(44100, 44100)
    assert spec.model().files == ()
