"""The checks of what an engine does with recordings that are not as it declares, and of the errors that it names."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ironclad.engines.client import Host
from ironclad.errors import CorruptAudio, InputError, IroncladError, ModelBroken
from ironclad.testing.verdict import Broken, Check, NotJudged

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ironclad.testing.bench import Bench

_FRAMES: Final = 100_000
_NOWHERE: Final = "nonsense:97"
"""A device that no machine has."""
_REFUSE: Final = (
    'separate it, or raise EngineError("input", "why") (with an error code of the catalogue, as E_TOO_MANY_CHANNELS, '
    "if one fits)"
)


def other(*, channels: int = 0, rate: int = 0) -> Callable[[Bench], None]:
    """A recording with other channels, or at another rate, is separated or refused as a recording."""

    def check(bench: Bench) -> None:
        bench.sound()
        made = bench.separate(bench.music(_FRAMES, channels=channels, rate=rate))
        what = f"{channels or bench.target.spec.channels} channels at {rate or bench.target.rate} Hz"
        declared = channels in {0, bench.target.spec.channels} and (
            bench.target.spec.sample_rate_of(bench.target.model) in {None, rate or bench.target.rate}
        )
        if isinstance(made.error, InputError) and declared:
            advice = "it declares to take them (`EngineSpec.channels`, `EngineSpec.sample_rate`): separate or declare"
            raise Broken(f"{what} are refused: {made.said()}", advice)
        if made.error is not None and not isinstance(made.error, InputError):
            raise Broken(f"{what}: {made.said()}", _REFUSE)
        bench.forget(made)
        _still_right(bench, what)

    return check


def bad_samples(bench: Bench) -> None:
    """NaN in the mixture is the recording's fault, and stays so."""
    base = bench.sound()
    samples = base.recording.samples().copy()
    samples[:, samples.shape[1] * 3 // 5] = np.nan
    made = bench.separate(bench.written("nan", samples))
    if not isinstance(made.error, CorruptAudio):
        raise Broken(
            f"NaN in the mixture should be {CorruptAudio.code}: {made.said()}",
            "read the whole mixture with `reader.read`, which raises the right error, and let it through: catch no "
            "EngineError",
        )
    _still_right(bench, "NaN in the mixture")


def unknown_device(bench: Bench) -> None:
    """A device that is not there is an error when the model is loaded; nothing falls back by itself."""
    bench.sound()
    error = _load_error(bench, device=_NOWHERE)
    advice = 'in `load`, raise EngineError("model", "why") for a device that cannot be used'
    if error is None:
        raise Broken(f"device {_NOWHERE}: it loads, on whatever device", f"{advice}; never fall back to another one")
    if not isinstance(error, ModelBroken):
        raise Broken(f"device {_NOWHERE}: {type(error).__name__} ({error.code}): {error.detail}", advice)


def damaged_model(bench: Bench) -> None:
    """Weights that are something else are an error of the model."""
    bench.sound()
    folder = bench.target.model_folder
    if folder is None or not folder.is_dir():
        raise NotJudged("the engine has no weights")
    damaged = bench.folder / "damaged"
    shutil.rmtree(damaged, ignore_errors=True)

    def damage(source: str, target: str) -> Any:
        with open(target, "wb") as file:  # noqa: PTH123  # as copytree calls it
            file.write(b"these are no weights")
        return source

    shutil.copytree(folder, damaged, copy_function=damage)
    error = _load_error(bench, model_folder=damaged)
    advice = 'in `load`, raise EngineError("model", "which file") for weights that cannot be read, all of them'
    if error is None:
        raise Broken("weights that are something else are loaded", advice)
    if not isinstance(error, ModelBroken):
        raise Broken(f"weights that are something else: {type(error).__name__} ({error.code}): {error.detail}", advice)


def _load_error(bench: Bench, *, device: str = "", model_folder: Path | None = None) -> IroncladError | None:
    host = Host(bench.plan(device=device, model_folder=model_folder))
    try:
        host.start()
    except IroncladError as exc:
        return exc
    finally:
        host.close()
    return None


def _still_right(bench: Bench, after: str) -> None:
    """The host takes the next recording as if nothing had been."""
    if not bench.host().alive:
        raise Broken(f"{after}: the host is gone afterwards", "an error must not end the process")


CHECKS: Final = (
    Check("mono", other(channels=1)),
    Check("six-channels", other(channels=6)),
    Check("8-kHz", other(rate=8000)),
    Check("192-kHz", other(rate=192_000)),
    Check("error-class-of-bad-samples", bad_samples),
    Check("error-class-of-an-unknown-device", unknown_device),
    Check("error-class-of-a-damaged-model", damaged_model),
)
