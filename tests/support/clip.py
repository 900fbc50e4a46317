"""The clip that the stempeg package carries: a real song with its true stems."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

import av
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

RATE = 44_100
STREAMS = ("mixture", "drums", "bass", "other", "vocals")


def stems() -> dict[str, NDArray[np.float32]]:
    """Its five streams, float32 `(frames, 2)` at 44.1 kHz."""
    spec = importlib.util.find_spec("stempeg")  # found, not imported: it demands an ffmpeg program
    assert spec is not None
    assert spec.origin is not None
    (path,) = (Path(spec.origin).parent / "data").glob("*.stem.mp4")
    found = {}
    for index, name in enumerate(STREAMS):
        with av.open(str(path)) as container:
            blocks = [frame.to_ndarray().T for frame in container.decode(audio=index)]
        found[name] = np.concatenate(blocks).astype(np.float32)
    return found
