"""A model's folder: one file of weights and what describes it. Nothing is looked up elsewhere, nothing is unpickled."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import yaml

from ironclad.engines.host.api import EngineError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MDX: Final = "mdx"
MDXC: Final = "mdxc"
ROFORMER: Final = "roformer"
VR: Final = "vr"
_SUFFIXES: Final = {".onnx": MDX, ".ckpt": MDXC, ".pth": VR}
_DESCRIPTIONS: Final = {".json", ".yaml", ".yml"}
_HASHED_BYTES: Final = 10_000 * 1024
_NEEDED: Final = {
    MDX: ("compensate", "mdx_dim_f_set", "mdx_dim_t_set", "mdx_n_fft_scale_set", "primary_stem"),
    MDXC: ("audio", "model", "training", "inference"),
    ROFORMER: ("audio", "model", "training", "inference"),
    VR: ("vr_model_param", "primary_stem"),
}


class _Loader(yaml.SafeLoader):
    """Plain data, and the tuples that the published descriptions of RoFormers hold."""


_Loader.add_constructor("tag:yaml.org,2002:python/tuple", lambda loader, node: tuple(loader.construct_sequence(node)))


@dataclass(frozen=True)
class Model:
    """What is in a folder."""

    family: str
    weights: Path
    data: Mapping[str, Any]
    """The description, as audio-separator has it."""
    predicted: tuple[str, ...]
    """The stems that the network makes, in its order, by Ironclad's names."""
    rest: str
    """The stem that is the mixture minus the one predicted; empty if the network makes all."""

    @property
    def stems(self) -> tuple[str, ...]:
        """Every stem that can be had."""
        return (*self.predicted, self.rest) if self.rest else self.predicted


def read(folder: Path) -> Model:
    """What is in a model's folder. Raises `EngineError` (model) that says what is missing or wrong."""
    weights = sorted(path for path in folder.iterdir() if path.suffix.lower() in _SUFFIXES)
    if len(weights) != 1:
        raise EngineError(
            "model", f"there are {len(weights)} files of weights (.onnx, .ckpt, .pth) in {folder.name}, not one"
        )
    data = _description(folder, weights[0])
    family = _SUFFIXES[weights[0].suffix.lower()]
    if family == MDXC and {"freqs_per_bands", "num_bands"} & set(data.get("model") or {}):
        family = ROFORMER
    if missing := [key for key in _NEEDED[family] if key not in data]:
        raise EngineError("model", f"the description of {weights[0].name} lacks {', '.join(missing)}")
    predicted, rest = _stems(family, data)
    return Model(family, weights[0], data, predicted, rest)


def _description(folder: Path, weights: Path) -> dict[str, Any]:
    found = sorted(path for path in folder.iterdir() if path.suffix.lower() in _DESCRIPTIONS and path.name[0] != ".")
    found = [path for path in found if path.name != "manifest.json"]
    if len(found) > 1:
        raise EngineError("model", f"there are {len(found)} descriptions in {folder.name}, not one")
    try:
        text = found[0].read_text(encoding="utf-8") if found else ""
        data = yaml.load(text, _Loader) if text else _known(weights)  # noqa: S506  # a safe loader, with tuples
    except (OSError, ValueError, yaml.YAMLError) as exc:
        raise EngineError("model", f"{found[0].name} cannot be read: {exc}") from exc
    if not isinstance(data, dict):
        raise EngineError("model", f"{weights.name} needs a description beside it (.json or .yaml)")
    return data


def _known(weights: Path) -> Any:
    """What the package itself knows of these weights, by the MD5 of their last 10 MB; None for nothing."""
    found = importlib.util.find_spec("audio_separator")
    for place in (found.submodule_search_locations or []) if found else []:
        path = Path(place, "model-data.json")
        if path.is_file():
            with weights.open("rb") as file:
                file.seek(max(0, weights.stat().st_size - _HASHED_BYTES))
                digest = hashlib.md5(file.read(), usedforsecurity=False).hexdigest()
            tables = json.loads(path.read_text(encoding="utf-8"))
            return next((table[digest] for table in tables.values() if digest in table), None)
    return None


def plain(name: str) -> str:
    """A stem by Ironclad's names: `Lead Vocals` → lead_vocals."""
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_") or "stem"


def _stems(family: str, data: Mapping[str, Any]) -> tuple[tuple[str, ...], str]:
    if family in {MDX, VR}:
        one = plain(str(data["primary_stem"]))
        rest = _other_than(one)
        return ((one, rest), "") if family == VR else ((one,), rest)
    training = data["training"]
    instruments = [plain(str(name)) for name in training.get("instruments") or []]
    if len(instruments) == 2 and "vocals" in instruments:  # noqa: PLR2004  # the vocals and what is left
        instruments = [name if name == "vocals" else "instrumental" for name in instruments]
    target = training.get("target_instrument")
    if not target:
        if len(instruments) < 2:  # noqa: PLR2004  # nothing to separate
            raise EngineError("model", "the description names neither a target nor several instruments")
        return tuple(instruments), ""
    one = plain(str(target))
    if one not in instruments and len(instruments) == 2:  # noqa: PLR2004  # `other` is called instrumental above
        one = "instrumental"
    others = [name for name in instruments if name != one]
    return (one,), others[0] if len(others) == 1 else _other_than(one)


def _other_than(stem: str) -> str:
    pairs = {"vocals": "instrumental", "instrumental": "vocals"}
    return pairs.get(stem, stem.removeprefix("no_") if stem.startswith("no_") else f"no_{stem}")


def check(model: Model, wanted: Sequence[str]) -> None:
    """Raise `EngineError` (model) for stems that a model does not make."""
    if unknown := sorted(set(wanted) - set(model.stems)):
        raise EngineError("model", f"{model.weights.name} makes {', '.join(model.stems)}, not {', '.join(unknown)}")
