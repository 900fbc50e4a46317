"""Files are read, never run."""

from __future__ import annotations

import hashlib
import json
import os
import struct
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not here; run this with the engine's own environment")
from ironclad_engine_demucs import bags, weights  # noqa: E402  # after the skip
from tiny import write_pickle, write_safetensors  # noqa: E402  # after the skip

from ironclad.engines.host.api import EngineError  # noqa: E402  # after the skip

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def same(one: Any, other: Any, atol: float = 0.0) -> bool:
    left, right = one.state_dict(), other.state_dict()
    return left.keys() == right.keys() and all(
        torch.allclose(left[name].float(), right[name].float(), rtol=atol, atol=atol) for name in left
    )


def test_safetensors_and_pickles_give_the_network_back(transformers: list[Any], hybrid: Any, tmp_path: Path) -> None:
    for number, network in enumerate([transformers[0], hybrid]):
        plain = weights.load_network(write_safetensors(tmp_path / f"a{number}.safetensors", network))
        assert type(plain) is type(network)
        assert same(plain, network)
        half = weights.load_network(write_pickle(tmp_path / f"b{number}.th", network))
        assert same(half, network, atol=2e-3)
        assert half.segment == network.segment
        assert not half.training


class Evil:
    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return os.mkdir, (str(self.witness),)


def test_a_pickle_that_would_run_code_is_refused_and_runs_none(transformers: list[Any], tmp_path: Path) -> None:
    witness = tmp_path / "ran"
    path = write_pickle(tmp_path / "evil.th", transformers[0], training_args=Evil(witness))
    with pytest.raises(EngineError, match="asks for more than weights") as caught:
        weights.load_network(path)
    assert caught.value.kind == "model"
    assert not witness.exists()


def test_only_a_file_that_is_published_may_ask_for_more(
    transformers: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    witness = tmp_path / "ran"
    path = write_pickle(tmp_path / "pinned.th", transformers[0], training_args=Evil(witness))
    pinned = replace(bags.FILES[0], sha256=hashlib.sha256(path.read_bytes()).hexdigest())
    monkeypatch.setattr(weights, "FILES", (pinned,))
    weights.load_network(path)
    assert witness.exists()
    assert not weights.published(write_pickle(tmp_path / "other.th", transformers[1]))


@pytest.mark.parametrize("klass", ["subprocess.Popen", "demucs.htdemucs.CrossTransformerEncoder", "", "os.system"])
def test_a_class_that_is_not_on_the_list_is_never_imported(klass: str, transformers: list[Any], tmp_path: Path) -> None:
    witness = tmp_path / "ran"
    path = write_safetensors(
        tmp_path / "evil.safetensors", transformers[0], klass=klass, args=json.dumps([["touch", str(witness)]]),
        kwargs="{}",
    )  # fmt: skip
    with pytest.raises(EngineError, match="none of Demucs' networks"):
        weights.load_network(path)
    assert not witness.exists()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"kwargs": "[]"}, "not that of a network"),
        ({"kwargs": "{"}, "not that of a network"),
        ({"args": "{}"}, "not that of a network"),
        ({"kwargs": json.dumps({"channels": 4})}, "does not make a HTDemucs"),
        ({"kwargs": json.dumps({"no_such_argument": 1})}, "does not make a HTDemucs"),
        ({"structure": "{}"}, "diffq"),
        ({"kwargs": json.dumps({"segment": {"_type": "fraction", "numerator": 1, "denominator": 0}})}, "not that of"),
    ],
)
def test_metadata_that_makes_no_network(
    changes: dict[str, str], reason: str, transformers: list[Any], tmp_path: Path
) -> None:
    with pytest.raises(EngineError, match=reason):
        weights.load_network(write_safetensors(tmp_path / "odd.safetensors", transformers[0], **changes))


def raw(path: Path, header: Any, body: bytes = b"", length: int | None = None) -> Path:
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + body)
    return path


META = {"klass": "demucs.htdemucs.HTDemucs", "args": "[]", "kwargs": '{"sources": ["a"]}'}


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ({"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}, "not the size"),
        ({"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}, "outside"),
        ({"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}, "outside"),
        ({"dtype": "F32", "shape": [1], "data_offsets": [8, 4]}, "outside"),
        ({"dtype": "F32", "shape": [10**12], "data_offsets": [0, 8]}, "outside"),
        ({"dtype": "Q4", "shape": [1], "data_offsets": [0, 4]}, "not described"),
        ({"shape": [1], "data_offsets": [0, 4]}, "not described"),
        ([], "not described"),
        ({"dtype": "F32", "shape": [1], "data_offsets": [0]}, "not described"),
    ],
)
def test_tensors_stay_in_their_file(entry: Any, reason: str, tmp_path: Path) -> None:
    path = raw(tmp_path / "odd.safetensors", {"__metadata__": META, "x": entry}, b"\0" * 8)
    with pytest.raises(EngineError, match=reason):
        weights.load_network(path)


@pytest.mark.parametrize("length", [0, 1, 1 << 40, 10_000])
def test_a_header_that_is_none(length: int, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="not a safetensors file"):
        weights.load_network(raw(tmp_path / "odd.safetensors", {"__metadata__": META}, length=length))


@pytest.mark.parametrize("content", [b"", b"\x80", b"PK\x03\x04nonsense", b"hello" * 100])
def test_a_damaged_pickle(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "damaged.th"
    path.write_bytes(content)
    with pytest.raises(EngineError) as caught:
        weights.load_network(path)
    assert caught.value.kind == "model"


@pytest.mark.parametrize("package", [{"klass": 1}, [1, 2], {"state": {}}])
def test_a_pickle_that_is_no_package(package: Any, tmp_path: Path) -> None:
    torch.save(package, tmp_path / "odd.th")
    with pytest.raises(EngineError):
        weights.load_network(tmp_path / "odd.th")


def test_a_bag_of_two_with_weights_and_a_segment(transformers: list[Any], tmp_path: Path) -> None:
    write_safetensors(tmp_path / "one.safetensors", transformers[0])
    write_pickle(tmp_path / "two-12345678.th", transformers[1])
    (tmp_path / "mine.yaml").write_text("models: [one, two]\nweights: [[1,0,1,1],[0,1,1,1]]\nsegment: 0.5\n")
    networks, bag = weights.load_bag(tmp_path, "mine")
    assert bag.weights == ((1, 0, 1, 1), (0, 1, 1, 1))
    assert [float(network.segment) for network in networks] == [0.5, 0.5]
    (tmp_path / "mine.yaml").write_text("models: [one, two]\nsegment: 40\n")
    networks, _bag = weights.load_bag(tmp_path, "mine")
    assert [float(network.segment) for network in networks] == [1.0, 1.0]  # transformers take no longer one


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("models: []", "row of weights"),
        ("{}", "not a list"),
        ("models: [one]\nweights: [[1,1,1,1],[1,1,1,1]]", "row of weights"),
        ("models: [one]\nweights: [[1,.nan,1,1]]", "impossible"),
        ("models: [one]\nweights: [[1,0,1,1]]", "no network makes"),
        ("models: [one]\nweights: [[1,1]]", "one weight a stem"),
        ("models: [one]\nsegment: -1", "impossible"),
        ("models: [missing]", "no file for network missing"),
        ("models: !!python/object/apply:os.mkdir [x]", "not a list"),
    ],
)
def test_lists_that_cannot_be(text: str, reason: str, transformers: list[Any], tmp_path: Path) -> None:
    write_safetensors(tmp_path / "one.safetensors", transformers[0])
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(EngineError, match=reason):
        weights.load_bag(tmp_path, "mine")


def test_networks_that_do_not_belong_together(transformers: list[Any], tmp_path: Path) -> None:
    write_safetensors(tmp_path / "one.safetensors", transformers[0])
    other = type(transformers[0])(**{**transformers[0]._init_args_kwargs[1], "samplerate": 16000})
    write_safetensors(tmp_path / "two.safetensors", other)
    (tmp_path / "mine.yaml").write_text("models: [one, two]")
    with pytest.raises(EngineError, match="belong together"):
        weights.load_bag(tmp_path, "mine")


def test_without_a_list_the_only_network_is_the_model_and_published_names_are_known(
    transformers: list[Any], tmp_path: Path
) -> None:
    with pytest.raises(EngineError, match="0 networks"):
        weights.load_bag(tmp_path, "mine")
    write_safetensors(tmp_path / "one.safetensors", transformers[0])
    assert len(weights.load_bag(tmp_path, "mine")[0]) == 1
    with pytest.raises(EngineError, match="no file for network f7e0c4bc"):
        weights.load_bag(tmp_path, "htdemucs_ft")
