"""Spleeter itself, with TensorFlow: the reference. The whole recording is in memory, 1.4 GB a minute."""

from __future__ import annotations

import math
import os
import tarfile
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ironclad.engines.host.api import EngineError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy as np
    from numpy.typing import NDArray

    Samples = NDArray[np.float32]

_POLL_SECONDS: Final = 0.2
_USUAL_SECONDS: Final = 30.0


class Reference:
    """A model as spleeter reads it: from a folder with its checkpoint's files, not from an archive."""

    def __init__(self, folder: Path, name: str) -> None:
        self._name = name
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        self._folder = folder
        archives = sorted(folder.glob("*.tar.gz"))
        if archives:
            self._temporary = tempfile.TemporaryDirectory(prefix="ironclad-spleeter-")
            self._folder = Path(self._temporary.name)
            with tarfile.open(archives[0]) as tar:
                tar.extractall(self._folder, filter="data")
        if not list(self._folder.glob("*.index")):
            raise EngineError("model", f"{name} has no checkpoint that TensorFlow reads")
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        self._separators: dict[tuple[str, bool], Any] = {}

    def _separator(self, band: str, *, wiener: bool) -> Any:
        from spleeter.separator import Separator  # noqa: PLC0415  # imports TensorFlow

        if (band, wiener) not in self._separators:
            suffix = "" if band == "11kHz" else f"-{band}"
            made = Separator(f"spleeter:{self._name}{suffix}", MWF=wiener, multiprocess=False)
            made._params["model_dir"] = str(self._folder.absolute())  # noqa: SLF001  # an absolute path is not looked for elsewhere
            self._separators[band, wiener] = made
        return self._separators[band, wiener]

    def separate(
        self, mixture: Samples, band: str, *, wiener: bool, waiting: Callable[[float], None] = lambda _share: None
    ) -> Mapping[str, Samples]:
        """Stems `(channels, frames)` of a mixture `(channels, frames)`.

        `waiting` gets a share that grows with the processor time used. What it raises goes on when TensorFlow is done,
        which nothing else stops: who cancels and will not wait ends the process.
        """
        made: dict[str, Samples] = {}
        failed: list[BaseException] = []

        def work() -> None:
            try:
                found = self._separator(band, wiener=wiener).separate(mixture.T)
                made.update({stem: wave.T for stem, wave in found.items()})
            except BaseException as exc:  # noqa: BLE001  # handed on; spleeter calls sys.exit
                failed.append(exc)

        thread = threading.Thread(target=work, name="tensorflow", daemon=True)
        began = time.process_time()
        thread.start()
        try:
            while thread.is_alive():
                thread.join(_POLL_SECONDS)
                waiting(1 - math.exp((began - time.process_time()) / _USUAL_SECONDS))
        except BaseException:
            thread.join()  # a host that said it is free would run two songs at once, through one graph
            raise
        if failed:
            raise failed[0]
        return made
