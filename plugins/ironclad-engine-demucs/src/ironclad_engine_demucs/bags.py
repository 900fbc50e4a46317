"""The published models: which networks make a model ("bag"), how their outputs are weighted, and their files.

Signatures, weights and segments are those of demucs 4.1.0 (`demucs/remote/*.yaml`); a file's name ends in the first
eight digits of its SHA-256 (`demucs/remote/files.txt`), and its full SHA-256 is pinned here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

NAMES: Final = ("openvino", "onnxruntime", "pytorch")
"""What can run networks, in the usual order of speed on CPUs, the fastest first."""

_ROOT: Final = "https://dl.fbaipublicfiles.com/demucs"


@dataclass(frozen=True)
class Bag:
    """Networks whose outputs are averaged, stem by stem, with these weights (None: equal)."""

    signatures: tuple[str, ...]
    weights: tuple[tuple[float, ...], ...] | None = None
    segment: float | None = None
    """Seconds that the networks work on at a time, instead of what they were trained on."""


@dataclass(frozen=True)
class WeightFile:
    """One network's published file."""

    name: str
    folder: str
    size: int
    sha256: str

    @property
    def signature(self) -> str:
        """What a bag calls it."""
        return self.name.partition("-")[0]

    @property
    def url(self) -> str:
        """Where it is published."""
        return f"{_ROOT}/{self.folder}/{self.name}"


_HYBRID: Final = "hybrid_transformer"
_MDX: Final = "mdx_final"

FILES: Final[tuple[WeightFile, ...]] = (
    WeightFile(
        "955717e8-8726e21a.th", _HYBRID, 84141911, "8726e21a993978c7ba086d3872e7608d7d5bfca646ca4aca459ffda844faa8b4"
    ),
    WeightFile(
        "f7e0c4bc-ba3fe64a.th", _HYBRID, 84141271, "ba3fe64ae8ef66ac9a4857222ce48efbdc5eb3ad375cb79dd13debee5aaa4066"
    ),
    WeightFile(
        "d12395a8-e57c48e6.th", _HYBRID, 84141271, "e57c48e6b0e38af4f7118d7bd08c49f0a0c0edf7d09143bdd902ea0d237303e6"
    ),
    WeightFile(
        "92cfc3b6-ef3bcb9c.th", _HYBRID, 84141271, "ef3bcb9c8b40d14ae5d51b6db2587339cc12c6b77c0be151ce6d69002e087bf2"
    ),
    WeightFile(
        "04573f0d-f3cf25b2.th", _HYBRID, 84141271, "f3cf25b222c4eed7cd49dd8b2c9597d50c18bd154090f7b919cfa5f93cf22c49"
    ),
    WeightFile(
        "5c90dfd2-34c22ccb.th", _HYBRID, 54996327, "34c22ccb381c6f9fdbf324f04e1e2fe21aaaf293f5ded163a162697ff9a02ddd"
    ),
    WeightFile(
        "75fc33f5-1941ce65.th", _HYBRID, 167407275, "1941ce654b11df4132b9f4eae408556b4c83fad6fe26b4bc0dbcb36b975befb3"
    ),
    WeightFile(
        "e51eebcc-c1b80bdd.th", _MDX, 167399275, "c1b80bdd6de58274abf359e66822a76f49ce2b9f086fc5dc917ac14598e6bebf"
    ),
    WeightFile(
        "a1d90b5c-ae9d2452.th", _MDX, 167391595, "ae9d245283bf24b552913ee233a1101dcd0aeaed59b1c0a2da0e1f6eda15101b"
    ),
    WeightFile(
        "5d2d6c55-db83574e.th", _MDX, 167391595, "db83574e05b2308f76e2764819da673f2d16d437b9e619f5fcb72f275fc0e24f"
    ),
    WeightFile(
        "cfa93e08-61801ae1.th", _MDX, 167399275, "61801ae1567d606c97a9c3469e943ae306d0a873eeb60d623ae7cfc7042b3f68"
    ),
)

BAGS: Final[dict[str, Bag]] = {
    "htdemucs": Bag(("955717e8",)),
    "htdemucs_ft": Bag(
        ("f7e0c4bc", "d12395a8", "92cfc3b6", "04573f0d"),
        ((1.0, 0.0, 0.0, 0.0), (0.0, 1.0, 0.0, 0.0), (0.0, 0.0, 1.0, 0.0), (0.0, 0.0, 0.0, 1.0)),
    ),
    "htdemucs_6s": Bag(("5c90dfd2",)),
    "hdemucs_mmi": Bag(("75fc33f5",), segment=44.0),
    "mdx_extra": Bag(("e51eebcc", "a1d90b5c", "5d2d6c55", "cfa93e08"), segment=44.0),
}


def files_of(model: str) -> tuple[WeightFile, ...]:
    """The files of a published model, in the bag's order."""
    by_signature = {file.signature: file for file in FILES}
    return tuple(by_signature[signature] for signature in BAGS[model].signatures)
