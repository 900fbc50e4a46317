"""Spleeter's U-Nets as ONNX, from TensorFlow's checkpoint and without TensorFlow: `ironclad models convert`.

One graph a stem, `x` to `y`, both `(2, blocks, 512, bins)`: magnitudes of the mixture to magnitudes of the stem (to
logits, for the model whose masks sum to one). That is the form in which the networks of 2stems are published elsewhere
too, so those can be imported. The network is that of spleeter 2.4.2 `model/functions/unet.py`, after A. Jansson et al.,
"Singing voice separation with deep U-Net convolutional networks", ISMIR 2017: six convolutions down, six up, skips, a
mask. Batch normalisations are left as operators. The transposed convolutions are written as ordinary ones, one for each
parity of rows and columns (W. Shi et al., "Is the deconvolution layer the same as a convolutional layer?", 2016): the
same sums, in less time and without the buffers that ONNX Runtime takes for the operator.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final

import onnx
from onnx import TensorProto, helper, numpy_helper

from ironclad.engines.host.api import EngineError
from ironclad_engine_spleeter import checkpoint
from ironclad_engine_spleeter.recipes import CHANNELS, FRAMES, RATE, RECIPES, Recipe

if TYPE_CHECKING:
    from pathlib import Path

    from ironclad_engine_spleeter.checkpoint import Arrays

_DEPTH: Final = 6
_EPSILON: Final = 1e-3
"""Of Keras' batch normalisation."""
_PHASES: Final = ((0, 0), (0, 1), (1, 0), (1, 1))
"""Parities of row and column in the order in which `DepthToSpace` takes them."""
_TAPS: Final = ([3, 1], [4, 2, 0])
"""Of five taps at stride 2 with one cropped before: those that make the even and the odd samples, as correlations."""
_OPSET: Final = 17
_IR: Final = 8


def convert(model: str, source: Path, target: Path) -> None:
    """Write a graph for each stem into the folder `target`. Raises `EngineError` (model)."""
    recipe = RECIPES.get(model)
    if recipe is None:
        raise EngineError("model", f"{model} is none of {', '.join(RECIPES)}")
    variables = checkpoint.read_folder(source)
    for index, stem in enumerate(recipe.stems):
        print(f"{model}: writing {stem}.onnx", file=sys.stderr)  # noqa: T201  # shown to the operator
        onnx.save(unet(variables, recipe, index), target / f"{stem}.onnx")


class _Graph:
    """Nodes and weights as they come."""

    def __init__(self, variables: Arrays) -> None:
        self._variables = variables
        self.nodes: list[Any] = []
        self.weights: list[Any] = []

    def node(self, operator: str, inputs: list[str], **attributes: Any) -> str:
        """One node; the name of its output."""
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [name], **attributes))
        return name

    def weight(self, name: str, *, kernel: bool = False) -> str:
        """A variable.

        Kernels go from (rows, columns, in, out) to (out, in, rows, columns), which also turns a transposed
        convolution's (rows, columns, out, in) into (in, out, rows, columns).
        """
        values = self._variable(name)
        return self._add(name, values.transpose(3, 2, 0, 1) if kernel else values)

    def convolution(self, values: str, name: str, *, up: bool = False, **attributes: Any) -> str:
        """A convolution with its bias."""
        inputs = [values, self.weight(f"{name}/kernel", kernel=True), self.weight(f"{name}/bias")]
        return self.node("ConvTranspose" if up else "Conv", inputs, **attributes)

    def doubled(self, values: str, name: str) -> str:
        """A transposed convolution of five by five at stride 2, with its bias: twice the rows and columns."""
        kernel, bias = self._variable(f"{name}/kernel"), self.weight(f"{name}/bias")
        phases = []
        for row, column in _PHASES:
            taps = kernel.transpose(2, 3, 0, 1)[:, :, _TAPS[row]][:, :, :, _TAPS[column]]
            weight = self._add(f"{name}/kernel/{row}{column}", taps)
            phases.append(self.node("Conv", [values, weight, bias], pads=[1, 1, row, column]))
        return self.node("DepthToSpace", [self.node("Concat", phases, axis=1)], blocksize=2, mode="DCR")

    def _variable(self, name: str) -> Any:
        try:
            return self._variables[name]
        except KeyError as exc:
            raise EngineError("model", f"the checkpoint has no {name}") from exc

    def _add(self, name: str, values: Any) -> str:
        self.weights.append(numpy_helper.from_array(values.copy(), name))
        return name

    def normalised(self, values: str, name: str) -> str:
        """Batch normalisation with the statistics of the training."""
        parts = [f"{name}/{part}" for part in ("gamma", "beta", "moving_mean", "moving_variance")]
        return self.node("BatchNormalization", [values, *map(self.weight, parts)], epsilon=_EPSILON)


def unet(variables: Arrays, recipe: Recipe, index: int) -> Any:
    """The graph of a model's stem number `index`. Raises `EngineError` (model) for a checkpoint of another kind."""
    graph = _Graph(variables)
    values = block = graph.node("Transpose", ["x"], perm=[1, 0, 2, 3])
    skips: list[str] = []
    for level in range(_DEPTH):  # TensorFlow's "same" padding of an even length at stride 2: 1 before, 2 after
        name = _name("conv2d", (_DEPTH + 1) * index + level)
        values = graph.convolution(values, name, strides=[2, 2], pads=[1, 1, 2, 2])
        skips.append(values)
        if level == _DEPTH - 1:
            break  # Keras normalises the lowest level too, and reads it nowhere
        normalised = graph.normalised(values, _name("batch_normalization", 2 * _DEPTH * index + level))
        values = graph.node("Elu", [normalised]) if recipe.elu else graph.node("LeakyRelu", [normalised], alpha=0.2)
    values = skips[-1]
    for level in range(_DEPTH):
        name = _name("conv2d_transpose", _DEPTH * index + level)
        if level < _DEPTH - 1:
            values = graph.doubled(values, name)
        else:  # with its one channel, the operator is faster
            values = graph.convolution(values, name, up=True, strides=[2, 2], pads=[1, 1, 2, 2])
        values = graph.node("Elu" if recipe.elu else "Relu", [values])
        values = graph.normalised(values, _name("batch_normalization", 2 * _DEPTH * index + _DEPTH + level))
        if level < _DEPTH - 1:
            values = graph.node("Concat", [skips[_DEPTH - 2 - level], values], axis=1)
    last = _name("conv2d", (_DEPTH + 1) * index + _DEPTH)
    values = graph.convolution(values, last, dilations=[2, 2], pads=[3, 3, 3, 3])
    if not recipe.softmax:
        values = graph.node("Mul", [graph.node("Sigmoid", [values]), block])
    graph.nodes.append(helper.make_node("Transpose", [values], ["y"], perm=[1, 0, 2, 3]))
    shape = [CHANNELS, "n", FRAMES, "bins"]
    made = helper.make_graph(
        graph.nodes, recipe.stems[index], [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)], graph.weights,
    )  # fmt: skip
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR)
    about = {"model_type": "spleeter", "model_name": recipe.name, "stems": str(len(recipe.stems)),
             "sample_rate": str(RATE), "output": "logits" if recipe.softmax else "magnitudes"}  # fmt: skip
    helper.set_model_props(model, about)
    onnx.checker.check_model(model)
    return model


def _name(base: str, number: int) -> str:
    """Keras numbers the layers of one kind through all the networks; the first has no number."""
    return f"{base}_{number}" if number else base
