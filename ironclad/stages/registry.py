"""Every stage by its name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ironclad.jobs import pipeline
from ironclad.stages import categorize, metadata, organize, recombine, separate, stage, validate

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ironclad.stages.context import Stage

_ALL = (
    validate.STAGE, categorize.STAGE, metadata.STAGE, stage.STAGE, separate.STAGE, recombine.STAGE, organize.STAGE,
)  # fmt: skip
STAGES: Final[Mapping[str, Stage]] = {one.name: one for one in _ALL}
if tuple(STAGES) != pipeline.STAGES:
    raise RuntimeError("ironclad.jobs.pipeline names other stages than there are")
