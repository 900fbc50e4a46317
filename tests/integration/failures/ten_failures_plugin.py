"""A plugin with one engine that wants a model it is not given, and one that hangs."""

from __future__ import annotations

import threading
from typing import Any

from ironclad.engines.contract import EngineSpec, MemoryModel, ModelFile, ModelSpec
from ironclad.plugins.hookspecs import hookimpl

IRONCLAD_API = 1


class Hanging:
    """Loads, begins, and is silent for ever."""

    def load(self, request: Any) -> None:
        """Nothing to load."""

    def separate(self, *_: Any) -> None:
        threading.Event().wait()


def _engine(name: str, *files: ModelFile) -> EngineSpec:
    return EngineSpec(
        name=name, title=name, version="1", api_version=1, entry="ten_failures_plugin:Hanging",
        stems=("vocals", "accompaniment"), memory=MemoryModel(base=1),
        models=(ModelSpec(name="large", title="Weights", licence="MIT", files=files),),
    )  # fmt: skip


@hookimpl
def ironclad_engines() -> list[EngineSpec]:
    """Both."""
    weights = ModelFile(path="large.bin", size=3, sha256="0" * 64, sources=("https://example.org/large.bin",))
    return [_engine("hanging"), _engine("weighty", weights)]
