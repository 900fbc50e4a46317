from __future__ import annotations

import pytest

from ironclad.jobs.pipeline import FIRST, STAGES, next_stage, pool_of


def test_the_stages_follow_each_other() -> None:
    walked = [FIRST]
    while (following := next_stage(walked[-1])) is not None:
        walked.append(following)
    assert tuple(walked) == STAGES
    assert STAGES == ("validate", "categorize", "metadata", "stage", "separate", "recombine", "organize")


def test_an_unknown_stage_is_a_bug() -> None:
    with pytest.raises(ValueError, match="not in"):
        next_stage("mastering")


@pytest.mark.parametrize(
    ("stage", "engine_pool", "pools", "expected"),
    [
        ("validate", "gpu", {"cpu", "gpu"}, "cpu"),
        ("separate", "gpu", {"cpu", "gpu"}, "gpu"),
        ("separate", "cpu", {"cpu", "gpu"}, "cpu"),
        ("separate", "gpu", {"cpu"}, "cpu"),
        ("validate", "gpu", {"gpu"}, "gpu"),
        ("validate", "cpu", {"fast", "big"}, "big"),
        ("separate", "gpu", set(), "gpu"),
    ],
)
def test_a_stage_runs_where_it_can(stage: str, engine_pool: str, pools: set[str], expected: str) -> None:
    assert pool_of(stage, engine_pool, frozenset(pools)) == expected
