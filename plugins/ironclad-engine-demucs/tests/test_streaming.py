"""Streamed equals whole, in constant memory."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not here; run this with the engine's own environment")
import demucs.apply  # noqa: E402  # after the skip
from ironclad_engine_demucs import streaming  # noqa: E402  # after the skip
from ironclad_engine_demucs.pytorch import TorchNetwork  # noqa: E402  # after the skip
from ironclad_engine_demucs.streaming import Plan  # noqa: E402  # after the skip

if TYPE_CHECKING:
    from collections.abc import Callable

LENGTH = 8000


def reference(networks: list[Any], weights: Any, wave: Any, plan: Plan, monkeypatch: pytest.MonkeyPatch) -> Any:
    """What demucs makes of the whole: `(stems, channels, frames)`."""
    delays = random.Random(5)

    class Delays:
        """Only the shifts are drawn from it; the networks draw from the global one as well."""

        randint = staticmethod(delays.randint)

    monkeypatch.setattr(demucs.apply, "random", Delays)
    model = networks[0] if weights is None and len(networks) == 1 else demucs.apply.BagOfModels(networks, weights)
    mix = torch.from_numpy(wave)
    mono = mix.mean(0)
    mean, deviation = mono.mean(), mono.std() + 1e-8
    made = demucs.apply.apply_model(
        model, ((mix - mean) / deviation)[None], shifts=plan.shifts, overlap=plan.overlap, segment=plan.segment,
        transition_power=plan.transition_power,
    )  # fmt: skip
    return (made * deviation + mean)[0].numpy()


def streamed(networks: list[Any], weights: Any, reader: Any, plan: Plan, **more: Any) -> dict[str, Any]:
    blocks: dict[str, list[Any]] = {}
    position = 0
    found = streaming.separate(
        [TorchNetwork(network) for network in networks],
        weights,
        reader,
        plan,
        statistics=streaming.measure(reader),
        rng=random.Random(5),
        **more,
    )
    for start, stems in found:
        assert start == position
        position += next(iter(stems.values())).shape[-1]
        for stem, block in stems.items():
            blocks.setdefault(stem, []).append(block)
    return {stem: np.concatenate(pieces, -1) for stem, pieces in blocks.items()}


BAG = ((1.0, 0.0, 0.5, 1.0), (0.0, 1.0, 0.5, 2.0))


@pytest.mark.parametrize(
    ("count", "weights", "frames", "plan"),
    [
        (1, None, 1, Plan()),
        (1, None, 700, Plan()),
        (1, None, 5001, Plan()),
        (1, None, LENGTH, Plan()),
        (1, None, LENGTH + 1, Plan()),
        (1, None, int(3.3 * LENGTH) + 1, Plan()),
        (1, None, int(3.3 * LENGTH), Plan(overlap=0.1)),
        (1, None, int(2.6 * LENGTH), Plan(overlap=0.5)),
        (1, None, int(2.1 * LENGTH), Plan(overlap=0.8)),
        (1, None, int(2.1 * LENGTH), Plan(overlap=0.0)),
        (1, None, int(2.1 * LENGTH), Plan(transition_power=2.0)),
        (1, None, int(2.1 * LENGTH), Plan(segment=0.7)),
        (1, None, int(1.7 * LENGTH), Plan(shifts=1)),
        (1, None, 500, Plan(shifts=2)),
        (2, None, int(1.3 * LENGTH), Plan()),
        (2, BAG, int(2.3 * LENGTH), Plan()),
        (2, BAG, int(1.3 * LENGTH), Plan(shifts=2)),
        (1, None, int(5.3 * LENGTH), Plan(batch=4)),
        (2, BAG, int(2.3 * LENGTH), Plan(batch=2, shifts=1)),
    ],
)
def test_streamed_equals_whole(  # noqa: PLR0917  # cases and fixtures
    count: int, weights: Any, frames: int, plan: Plan, transformers: list[Any], reader: Callable[[int], Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    source, networks = reader(frames), transformers[:count]
    made = streamed(networks, weights, source, plan)
    assert {stem: block.shape for stem, block in made.items()} == dict.fromkeys(networks[0].sources, (2, frames))
    if frames == 1:  # demucs divides by the deviation of one sample, which is not a number
        assert all(np.isfinite(block).all() for block in made.values())
        return
    whole = reference(networks, weights, source.wave, plan, monkeypatch)
    difference = max(np.abs(made[stem] - whole[index]).max() for index, stem in enumerate(networks[0].sources))
    assert difference <= 1e-6 * max(1.0, np.abs(whole).max())


def test_a_network_without_a_fixed_length(
    hybrid: Any, reader: Callable[[int], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = reader(int(2.4 * LENGTH) + 3)
    whole = reference([hybrid], None, source.wave, Plan(), monkeypatch)
    made = streamed([hybrid], None, source, Plan(batch=3))
    assert max(np.abs(made[stem] - whole[index]).max() for index, stem in enumerate(hybrid.sources)) <= 1e-6


def test_networks_that_matter_for_no_wanted_stem_are_not_run(
    transformers: list[Any], reader: Callable[[int], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = reader(LENGTH)
    weights = ((1.0, 1.0, 1.0, 0.0), (0.0, 0.0, 0.0, 1.0))
    both = streamed(transformers, weights, source, Plan(shifts=1))
    monkeypatch.setattr(transformers[0], "forward", None)  # running it would fail
    only = streamed(transformers, weights, source, Plan(shifts=1), wanted={"vocals"})
    assert list(only) == ["vocals"]
    np.testing.assert_array_equal(only["vocals"], both["vocals"])


def test_shifts_depend_on_the_seed_and_on_nothing_else(transformers: list[Any], reader: Callable[[int], Any]) -> None:
    source, network = reader(LENGTH), transformers[0]

    def run(seed: int) -> Any:
        blocks = streaming.separate(
            [TorchNetwork(network)],
            None,
            source,
            Plan(shifts=1),
            statistics=streaming.measure(source),
            rng=random.Random(seed),
        )
        return np.concatenate([stems["bass"] for _, stems in blocks], -1)

    one = run(1)
    np.testing.assert_array_equal(run(1), one)
    assert np.abs(run(2) - one).max() > 1e-5


def test_what_progress_raises_ends_it(transformers: list[Any], reader: Callable[[int], Any]) -> None:
    steps: list[tuple[int, int]] = []

    def progress(done: int, total: int) -> None:
        steps.append((done, total))
        if done == 2:
            raise KeyboardInterrupt

    source = reader(4 * LENGTH)
    blocks = streaming.separate(
        [TorchNetwork(transformers[0])], None, source, Plan(), statistics=streaming.measure(source), progress=progress
    )
    with pytest.raises(KeyboardInterrupt):
        list(blocks)
    assert steps == [(1, 6), (2, 6)]


@pytest.mark.parametrize("plan", [Plan(), Plan(shifts=2), Plan(overlap=0.8), Plan(overlap=0.0)])
@pytest.mark.parametrize("since", [1, 5999, 6000, 6001, LENGTH, 20_000, 30_299])
def test_going_on_makes_the_same_samples(
    since: int, plan: Plan, transformers: list[Any], reader: Callable[[int], Any]
) -> None:
    source, networks = reader(30_300), [TorchNetwork(network) for network in transformers[: 1 + (since == LENGTH)]]

    def run(since: int) -> tuple[int, Any]:
        blocks = list(
            streaming.separate(
                networks, None, source, plan, statistics=streaming.measure(source), rng=random.Random(5), since=since
            )
        )
        return blocks[0][0], np.concatenate([stems["bass"] for _, stems in blocks], -1)

    start, rest = run(since)
    assert start == since
    np.testing.assert_array_equal(rest, run(0)[1][:, since:])


def test_what_waits_does_not_grow_with_the_length(transformers: list[Any], reader: Callable[[int], Any]) -> None:
    reads: list[int] = []
    source = reader(20 * LENGTH)
    read = source.read
    source.read = lambda start, count: reads.append(count) or read(start, count)
    blocks = streaming.separate(
        [TorchNetwork(network) for network in transformers],
        BAG,
        source,
        Plan(shifts=2),
        statistics=streaming.Statistics(np.float32(0), np.float32(1)),
    )
    assert max(stems["bass"].shape[-1] for _, stems in blocks) <= 2 * LENGTH
    assert max(reads) <= LENGTH


def test_statistics_are_those_of_the_whole(reader: Callable[[int], Any]) -> None:
    source = reader(700_001)
    mono = source.wave.mean(0, dtype=np.float64)
    found = streaming.measure(source)
    assert float(found.mean) == pytest.approx(mono.mean(), abs=1e-8)
    assert float(found.deviation) == pytest.approx(mono.std(ddof=1) + 1e-8, rel=1e-6)
