"""Small random networks for the plugins' engines, made here: no weights are fetched."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import bundles
import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

DEMUCS_RATE = 44100
_FRAMES = 44100
_SIZE, _HOP = 1024, 256
GAINS = (0.5, 0.25, 0.125, 0.0625)
"""Of the mixture, in the stems of `shares`."""


def shares(path: Path, frames: int, bins: int, steps: int) -> Path:
    """An ONNX graph with the inputs and outputs of htdemucs, whose stems are `GAINS` of the mixture.

    Half of each comes from the wave, half from the spectrum of `bins` times `steps`.
    """
    import onnx  # noqa: PLC0415  # not in every environment

    helper, real = onnx.helper, onnx.TensorProto.FLOAT
    stems = len(GAINS)

    def value(name: str, *shape: int) -> Any:
        return helper.make_tensor_value_info(name, real, shape)

    def constant(name: str, dimensions: int) -> Any:
        shape = [stems if axis == 1 else 1 for axis in range(dimensions)]
        return helper.make_tensor(name, real, shape, np.array(GAINS, np.float32) / 2)

    axes = helper.make_tensor("axes", onnx.TensorProto.INT64, [1], [1])
    nodes = [
        helper.make_node("Unsqueeze", ["mix", "axes"], ["mixes"]),
        helper.make_node("Mul", ["mixes", "w"], ["waves"]),
        helper.make_node("Unsqueeze", ["spec", "axes"], ["specs"]),
        helper.make_node("Mul", ["specs", "s"], ["spectra"]),
    ]
    made = helper.make_graph(
        nodes, "shares", [value("mix", 1, 2, frames), value("spec", 1, 4, bins, steps)],
        [value("spectra", 1, stems, 4, bins, steps), value("waves", 1, stems, 2, frames)],
        [axes, constant("w", 4), constant("s", 5)],
    )  # fmt: skip
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def demucs(folder: Path) -> Path:
    """A graph of one second, under the name of the published network."""
    folder.mkdir(parents=True)
    shares(folder / "955717e8.onnx", _FRAMES, _SIZE // 2, -(-_FRAMES // _HOP))
    described = {"sources": ["drums", "bass", "other", "vocals"], "samplerate": DEMUCS_RATE}
    (folder / "955717e8.json").write_text(json.dumps(described), encoding="utf-8")
    return folder


def spleeter(folder: Path) -> Path:
    """The checkpoint of a network 16 times narrower than that of 2stems, converted."""
    from ironclad_engine_spleeter import convert  # noqa: PLC0415  # needs onnx

    (folder / "converted").mkdir(parents=True)
    bundles.write(folder, spleeter_variables(stems=2))
    convert.convert("2stems", folder, folder / "converted")
    return folder


def spleeter_variables(stems: int, seed: int = 0) -> dict[str, Any]:
    """Random variables of a whole model, its layers named as Keras does; 16 times narrower than the published ones."""
    rng = np.random.default_rng(seed)
    found: dict[str, Any] = {}
    counts = {"conv2d": 0, "conv2d_transpose": 0, "batch_normalization": 0}

    def layer(kind: str, **parts: tuple[int, ...]) -> None:
        number = counts[kind]
        counts[kind] += 1
        for part, shape in parts.items():
            values = rng.standard_normal(shape) * (0.3 if len(shape) > 1 else 0.1)
            values = np.abs(values) + 0.5 if part in {"gamma", "moving_variance"} else values
            found[f"{kind}_{number}/{part}" if number else f"{kind}/{part}"] = values.astype(np.float32)

    def normal(width: int) -> None:
        layer("batch_normalization", gamma=(width,), beta=(width,), moving_mean=(width,), moving_variance=(width,))

    widths = [1, 2, 2, 3, 3, 4]
    for _ in range(stems):
        for before, width in zip([2, *widths], widths, strict=False):
            layer("conv2d", kernel=(5, 5, before, width), bias=(width,))
            normal(width)
        for before, width in zip([4, 6, 6, 4, 4, 2], [3, 3, 2, 2, 1, 1], strict=True):
            layer("conv2d_transpose", kernel=(5, 5, width, before), bias=(width,))
            normal(width)
        layer("conv2d", kernel=(4, 4, 1, 2), bias=(2,))
    return found
