"""The published models: stems, network, file. As spleeter 2.4.2's `resources/*.json`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

RATE: Final = 44100
CHANNELS: Final = 2
WINDOW: Final = 4096
HOP: Final = 1024
FRAMES: Final = 512
"""Frames that a network works on at a time: blocks of them are independent of each other."""
BINS: Final = {"11kHz": 1024, "16kHz": 1536}
"""Bins that the networks see, from the bottom; what is above is in no stem. The weights are the same for both."""
BACKENDS: Final = ("onnxruntime", "tensorflow")

_ROOT: Final = "https://github.com/deezer/spleeter/releases/download/v1.4.0"


@dataclass(frozen=True)
class Recipe:
    """One model. `stems` in the order of its networks in the checkpoint."""

    name: str
    stems: tuple[str, ...]
    elu: bool
    """Activations are ELU; else leaky ReLU going down and ReLU going up."""
    softmax: bool
    """Masks sum to one over the stems; else each is a sigmoid of its own."""
    size: int
    """Bytes of the published archive; 0: not known here."""
    sha256: str

    @property
    def archive(self) -> str:
        """Its file."""
        return f"{self.name}.tar.gz"

    @property
    def url(self) -> str:
        """Where it is published."""
        return f"{_ROOT}/{self.archive}"


RECIPES: Final[dict[str, Recipe]] = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            "2stems", ("vocals", "accompaniment"), elu=False, softmax=False, size=73_109_797,
            sha256="f3a90b39dd2874269e8b05a48a86745df897b848c61f3958efc80a39152bd692",
        ),
        Recipe(
            "4stems", ("vocals", "drums", "bass", "other"), elu=True, softmax=False, size=0,
            sha256="3adb4a50ad4eb18c7c4d65fcf4cf2367a07d48408a5eb7d03cd20067429dfaa8",
        ),
        Recipe(
            "5stems", ("vocals", "piano", "drums", "bass", "other"), elu=True, softmax=True, size=0,
            sha256="25a1e87eb5f75cc72a4d2d5467a0a50ac75f05611f877c278793742513cc7218",
        ),
    )
}  # fmt: skip
