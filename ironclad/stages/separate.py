"""separate: the engine, in its own process, makes stems of the mixture."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from ironclad.engines.client import EngineHost
from ironclad.engines.registry import installed_engines
from ironclad.engines.separation import HostSettings, Progress, SeparationRequest
from ironclad.stages.context import Stage, StageContext, StageResult
from ironclad.stages.stage import opened

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ironclad.config import Settings
    from ironclad.db.tables import Job


def host_settings(settings: Settings, pool: str) -> HostSettings:
    """How a host is run on this machine: the cores divided among the pool's slots, unless set."""
    slots = settings.pools[pool].slots if pool in settings.pools else 1
    threads = settings.engine.threads or max(1, (os.cpu_count() or 1) // slots)
    return HostSettings(
        threads=threads, memory_bytes=settings.engine.memory_bytes, stall_seconds=settings.engine.stall_seconds
    )


def run(context: StageContext) -> StageResult:
    """Separate; the stems are float32 PCM with exactly the input's length."""
    job = context.job
    spec = installed_engines().get(job.engine)
    mixture = opened(context, "stage", context.outputs["stage"].data["engine"])
    request = SeparationRequest(
        input=mixture.path, frames=mixture.frames, channels=mixture.channels, rate=mixture.sample_rate,
        output=context.folder, params=job.parameters,
    )  # fmt: skip

    def progress(step: Progress) -> None:
        context.progress(step.fraction, f"{step.done}/{step.total}")

    with EngineHost(spec, settings=host_settings(context.settings, job.pool)) as host:
        separation = host.separate(request, progress=progress, check=context.check)
    stems = {
        name: {
            "file": stem.path.name, "frames": stem.frames, "channels": stem.channels, "sample_rate": stem.rate,
            "peak": stem.peak,
        }
        for name, stem in separation.stems.items()
    }  # fmt: skip
    return StageResult(
        data={
            "engine": spec.name, "version": spec.version, "model": spec.model().name,
            "model_digest": spec.model().digest, "parameters": separation.params, "stems": stems,
            "exact_sum": spec.exact_sum,
        },
    )  # fmt: skip


def parameters(job: Job, _settings: Settings) -> Mapping[str, Any]:
    """Engine, version, model digest and the parameters that affect the samples."""
    spec = installed_engines().get(job.engine)
    return spec.result_key("", spec.resolve(job.parameters))


STAGE = Stage(name="separate", version=1, run=run, parameters=parameters, depends=("stage",))
