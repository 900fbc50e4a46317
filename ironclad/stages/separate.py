"""separate: the engine, in its own process, makes stems of the mixture."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from ironclad.engines import choice, environments
from ironclad.engines.client import EngineHost
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
    job, layout = context.job, context.settings.layout
    engine = choice.of_job(layout, job.engine, job.parameters)
    spec, model = engine.spec, engine.spec.model(engine.model)
    ready = choice.ready(layout, engine)
    built = environments.current(layout, spec.name)
    device = choice.device(context.settings.engine, spec, job.engine_pool, here=() if built is None else built.devices)
    mixture = opened(context, "stage", context.outputs["stage"].data["engine"])
    request = SeparationRequest(
        input=mixture.path, frames=mixture.frames, channels=mixture.channels, rate=mixture.sample_rate,
        output=context.folder, params=engine.parameters,
    )  # fmt: skip

    def progress(step: Progress) -> None:
        context.progress(step.fraction, f"{step.done}/{step.total}")

    host = EngineHost(
        spec, model=model.name, device=device, settings=host_settings(context.settings, job.pool),
        interpreter=ready.interpreter, model_folder=ready.folder,
    )  # fmt: skip
    with host.start(context.check):
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
            "engine": spec.name, "version": spec.version, "model": model.name, "device": device,
            "model_digest": model.digest, "parameters": separation.params, "stems": stems,
            "exact_sum": spec.exact_sum,
        },
    )  # fmt: skip


def parameters(job: Job, settings: Settings) -> Mapping[str, Any]:
    """Engine, version, model digest and the parameters that affect the samples."""
    return choice.of_job(settings.layout, job.engine, job.parameters).key()


STAGE = Stage(name="separate", version=1, run=run, parameters=parameters, depends=("stage",))
