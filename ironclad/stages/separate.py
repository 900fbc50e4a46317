"""separate: the engine, in its own process, makes stems of the mixture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ironclad.engines import admission, choice, environments, ladder, products
from ironclad.engines.forecast import Case, Forecast
from ironclad.engines.hosts import Ears, Order
from ironclad.engines.memory import Machine
from ironclad.engines.plan import plan
from ironclad.engines.resume import Partial
from ironclad.engines.separation import SeparationRequest
from ironclad.errors import EngineMissing, IroncladError, ModelMismatch, ModelMissing, OutOfMemory
from ironclad.stages.context import Stage, StageContext, StageResult
from ironclad.stages.stage import opened

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ironclad.config import Settings
    from ironclad.db.tables import Job
    from ironclad.engines.choice import Engine
    from ironclad.engines.ladder import Rung
    from ironclad.engines.separation import Progress, Separation


@dataclass(frozen=True, slots=True)
class _Made:
    """Stems, and how they were come by."""

    separation: Separation
    rung: Rung
    steps: list[dict[str, Any]]


def run(context: StageContext) -> StageResult:
    """Separate; the stems are float32 PCM with exactly the input's length.

    When memory runs out, what the settings allow is tried with less, rung by rung, each of them recorded.
    """
    job, layout = context.job, context.settings.layout
    engine = choice.of_job(layout, job.engine, job.parameters)
    spec = engine.spec
    built = environments.current(layout, spec.name)
    device = choice.device(context.settings.engine, spec, job.engine_pool, here=() if built is None else built.devices)
    first = ladder.Rung(engine.model, device, spec.resolve(engine.parameters))
    made = _down(context, engine, first)
    model = spec.model(made.rung.model)
    stems = {
        name: {
            "file": stem.path.name, "frames": stem.frames, "channels": stem.channels, "sample_rate": stem.rate,
            "peak": stem.peak,
        }
        for name, stem in made.separation.stems.items()
    }  # fmt: skip
    return StageResult(
        data={
            "engine": spec.name, "version": spec.version, "model": model.name, "device": made.rung.device,
            "model_digest": model.digest, "parameters": made.separation.params, "stems": stems,
            "exact_sum": spec.exact_sum, "steps": made.steps, "backend": made.separation.backend,
        },
    )  # fmt: skip


def _down(context: StageContext, engine: Engine, first: Rung) -> _Made:
    """Down the ladder until something fits. Raises the last `OutOfMemory`, and everything else at once."""
    steps: list[dict[str, Any]] = []
    before, error = first, OutOfMemory()
    asked = products.stems_for(context.job.stems, engine.spec.stems_of(first.model))
    for rung in ladder.rungs(engine.spec, first, context.settings.engine.step_down, asked):
        if rung.step:
            step = {**rung.change(before), "because": error.code, "detail": error.detail}
            context.log.write(event="step_down", **step)
            context.note("step_down", step)
            context.progress(0.0, f"out of memory: {rung.step}")
            steps.append(step)
        before = rung
        try:
            return _Made(_separate(context, engine, rung), rung, steps)
        except OutOfMemory as exc:
            if exc.context.get("waited"):
                raise  # others hold the memory: later there may be enough for what was asked for
            error = exc
        except (ModelMissing, ModelMismatch, EngineMissing) as exc:
            if not steps:
                raise
            steps[-1]["failed"] = exc.code  # the smaller model is not here: what is after it may be
    raise error


def _separate(context: StageContext, engine: Engine, rung: Rung) -> Separation:
    """Separate in one way. What a killed host had finished is gone on with."""
    settings, layout, job = context.settings, context.settings.layout, context.job
    spec = engine.spec
    mixture = opened(context, "stage", context.outputs["stage"].data["engine"])
    ready = choice.ready(layout, engine.with_model(rung.model))
    built = environments.current(layout, spec.name)
    case = Case(
        spec, rung.model, rung.device, rung.values, mixture.frames, mixture.sample_rate,
        variant="" if built is None else built.variant,
    )  # fmt: skip
    forecast = Forecast(layout)
    need = forecast.predict(case)
    host = admission.host_settings(settings, job.pool)
    _refuse_impossible(need, host.memory_bytes, settings.engine.reserve_bytes)
    what = {
        "mixture": context.outputs["stage"].digest, "shape": [mixture.frames, mixture.channels, mixture.sample_rate],
        "key": spec.result_key(rung.model, rung.values), "device": rung.device, "stems": spec.stems_of(rung.model),
    }  # fmt: skip
    partial = Partial(context.partial, what)
    request = partial.begin(
        SeparationRequest(
            input=mixture.path, frames=mixture.frames, channels=mixture.channels, rate=mixture.sample_rate,
            output=context.partial, stems=spec.stems_of(rung.model), params=rung.values,
        )
    )  # fmt: skip

    def progress(step: Progress) -> None:
        context.progress(step.fraction, f"{step.done}/{step.total}")
        partial.progress(step)

    order = Order(
        plan=plan(
            spec, model=rung.model, device=rung.device, settings=host, interpreter=ready.interpreter,
            model_folder=ready.folder,
        ),
        request=request, copies=admission.copies(settings, job.pool, rung.device), need=need,
    )  # fmt: skip
    ears = Ears(progress, context.check, lambda reason: context.progress(0.0, reason))
    try:
        result = context.hosts.separate(order, ears)
    except IroncladError as exc:
        partial.failed(exc)
        raise
    forecast.observe(case, result.used.peak_rss)
    used = result.used
    context.log.write(
        event="separated", engine_host=used.pid, warm=used.separations > 1, resumed_frames=result.resumed,
        expected_bytes=need, peak_bytes=used.peak_rss, device_peak_bytes=used.device_peak_bytes,
        engine_seconds=round(result.seconds, 3),
    )  # fmt: skip
    return partial.finish(result, context.folder)


def _refuse_impossible(need: int, limit: int, reserve: int) -> None:
    """Raise `OutOfMemory` for what cannot fit here, however long one waits."""
    total = Machine().total()
    most = min((size for size in (limit, total - reserve if total else 0) if size > 0), default=0)
    if most and need > most:
        raise OutOfMemory(f"it is expected to need {need / 1e9:.2f} GB; {most / 1e9:.2f} GB can be had at most")


def parameters(job: Job, settings: Settings) -> Mapping[str, Any]:
    """Engine, version, model digest and the parameters that affect the samples."""
    return choice.of_job(settings.layout, job.engine, job.parameters).key()


STAGE = Stage(name="separate", version=1, run=run, parameters=parameters, depends=("stage",))
