"""The order of the stages, and the pools they need."""

from __future__ import annotations

from typing import Final

STAGES: Final = ("validate", "categorize", "metadata", "stage", "separate", "recombine", "organize")
"""Every stage, in order."""

ENGINE_ASKED: Final = "engine_asked"
"""The option of jobs whose engine or model somebody asked for: no rule of the settings changes it."""

MIXING: Final = "recombine"
"""The option that holds what a job asks for instead of the settings' section of the same name."""

FIRST: Final = STAGES[0]


def next_stage(stage: str) -> str | None:
    """The stage after `stage`; None after the last."""
    index = STAGES.index(stage) + 1
    return STAGES[index] if index < len(STAGES) else None


def pool_of(stage: str, engine_pool: str, pools: frozenset[str]) -> str:
    """The pool a stage runs on: the engine's for `separate`, else cpu; a machine park without it uses what is there.

    Args:
        stage: a name of `STAGES`.
        engine_pool: the pool that the job's engine asks for.
        pools: the pools that exist.
    """
    wanted = engine_pool if stage == "separate" else "cpu"
    if wanted in pools or not pools:
        return wanted
    return "cpu" if "cpu" in pools else min(pools)
