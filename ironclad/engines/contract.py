"""What an engine declares about itself: plain, frozen data that needs neither its packages nor its models.

The engine's code runs elsewhere: `EngineSpec.entry` names a callable that the engine host (`ironclad.engines.host`)
imports inside the engine's own environment and that returns a `Separator` (`ironclad.engines.host.api`).
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ironclad.engines import parameters as parameters_module
from ironclad.errors import BadRequest, NotFound

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ironclad.engines.parameters import Parameter, ParameterValue

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")
_STEM = re.compile(r"[a-z0-9][a-z0-9_]*")
_ENTRY = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
_SHA256 = re.compile(r"[0-9a-f]{64}")

CPU_POOL = "cpu"
GPU_POOL = "gpu"


def is_model_name(name: str) -> bool:
    """Whether a model may be called so: it is a folder's name too."""
    return _NAME.fullmatch(name) is not None


def pool_of(device: str) -> str:
    """The work pool of a device: `cpu` for the CPU, `gpu` for anything else (`cuda`, `cuda:1`, `mps`)."""
    return CPU_POOL if device == "cpu" else GPU_POOL


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFile:
    """One file of a model: its path in the model's folder, size in bytes, SHA-256 in hex, and where it comes from.

    A size of 0 is one that the plugin's author does not know; the digest alone decides.
    """

    path: str
    size: int
    sha256: str
    sources: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryModel:
    """Peak memory of the engine host in bytes: `base + per_second·seconds + per_segment_second·segment·batch`.

    `seconds` is the recording's length; `segment` (seconds) and `batch` are the values of the parameters named here
    (1 where a name is empty; 0 leaves the choice to the engine). An engine that streams has `per_second = 0`.
    """

    base: int
    per_second: int = 0
    per_segment_second: int = 0
    segment_parameter: str = ""
    batch_parameter: str = ""
    segments: tuple[float, ...] = ()
    """Values of the segment parameter to step down to when memory runs out; none: by halves, to its minimum or 1."""
    batches: tuple[int, ...] = ()
    """The same for the batch parameter."""
    cpu_batch: int = 0
    """The batch that the engine chooses itself on the CPU; 0: not known."""
    apart: tuple[str, ...] = ()
    """Other parameters that change it: what was measured with other values of theirs is kept apart."""

    def segment(self, values: Mapping[str, ParameterValue]) -> float:
        """Seconds at a time; where the engine chooses, the most that is declared."""
        return float(values.get(self.segment_parameter, 1)) or max(self.segments, default=1.0)

    def batch(self, values: Mapping[str, ParameterValue], device: str = "cpu") -> float:
        """Segments at a time; where the engine chooses, what it does on the CPU, else the most that is declared."""
        own = self.cpu_batch if device == "cpu" else 0
        return float(values.get(self.batch_parameter, 1)) or own or max(self.batches, default=1)

    def estimate(
        self, frames: int, rate: int, values: Mapping[str, ParameterValue] | None = None, device: str = "cpu"
    ) -> int:
        """Bytes for a recording of `frames` samples per channel at `rate` Hz with these parameter values."""
        size = self.segment(values or {}) * self.batch(values or {}, device)
        return int(self.base + self.per_second * frames / rate + self.per_segment_second * size)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """One set of weights. Empty or None fields mean: as the engine says."""

    name: str
    title: str
    licence: str
    files: tuple[ModelFile, ...] = ()
    """Empty for engines that need no weights."""
    stems: tuple[str, ...] = ()
    sample_rate: int | None = None
    quality: str = ""
    memory: MemoryModel | None = None
    smaller: str = ""
    """The engine's model to step down to when memory runs out, where the operator allows it."""

    @property
    def digest(self) -> str:
        """SHA-256 over the names and digests of its files: it changes when, and only when, the weights do."""
        lines = sorted(f"{file.path} {file.sha256}" for file in self.files)
        return hashlib.sha256("\n".join([self.name, *lines]).encode()).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedEnvironment:
    """The engine runs with Ironclad's own interpreter and these packages, which its distribution depends on."""

    packages: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PrivateEnvironment:
    """The engine needs a virtual environment of its own, built by `ironclad engines install`."""

    requirements: tuple[str, ...]
    """Lines of a lock file: exact versions, with hashes where the index gives them. NumPy is among them."""
    python: str = ">=3.11"
    """Range of Python versions (PEP 440)."""
    name: str = ""
    """What operators call it, where there are several to choose from."""
    title: str = ""
    """What it is for, in a few words."""
    memory: MemoryModel | None = None
    """Where what runs in it takes other memory than the engine and its models say."""
    variants: tuple[PrivateEnvironment, ...] = ()
    """Others that can take its place (`engines install --variant`), as one without a large framework."""

    @property
    def digest(self) -> str:
        """SHA-256 of the lock: an environment built from another one is stale."""
        return hashlib.sha256("\n".join([self.python, *self.requirements]).encode()).hexdigest()

    @property
    def choices(self) -> tuple[PrivateEnvironment, ...]:
        """It and its variants; the first is what is installed if nothing else is asked for."""
        return (self, *self.variants)

    def variant(self, name: str) -> PrivateEnvironment:
        """One of them by name. Raises `NotFound` with the names there are."""
        for one in self.choices:
            if one.name == name:
                return one
        names = ", ".join(one.name for one in self.choices if one.name) or "none"
        raise NotFound(f"there is no environment {name!r} to choose; there is: {names}")


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSpec:
    """An engine's declaration. Raises ValueError with all contradictions at once."""

    name: str
    title: str
    version: str
    """Version of the separation code; a change means that results may differ."""
    api_version: int
    """The plugin API this engine was written for, as a literal number."""
    entry: str
    """`module:callable` in the engine's environment; called without arguments, it returns a `Separator`."""
    stems: tuple[str, ...]
    models: tuple[ModelSpec, ...]
    """At least one; the first is the default."""
    memory: MemoryModel
    environment: SharedEnvironment | PrivateEnvironment = field(default_factory=SharedEnvironment)
    sample_rate: int | None = None
    """Hz that the engine takes; None: any. Who calls it resamples."""
    channels: int = 2
    """Channels that the engine takes. Who calls it mixes down or up."""
    devices: tuple[str, ...] = ("cpu",)
    """Kinds of device it can use (`cpu`, `cuda`, `mps`), best first."""
    parameters: tuple[Parameter, ...] = ()
    quality: str = ""
    """One honest sentence about the results, shown wherever the engine is chosen."""
    exact_sum: bool = False
    """Whether the stems sum to the mixture (up to one rounding of a float32)."""
    custom_models: bool = False
    """Whether operators may import models of their own, under names that are not in `models`."""
    converter: str = ""
    """`module:callable` for `models convert`, called with (model, its folder, an empty folder) in the engine's
    environment: it writes what some of the engine's runtimes need into the empty one. Empty: nothing to convert."""
    converter_variant: str = ""
    """The variant of the environment that it needs."""

    def __post_init__(self) -> None:
        if problems := _contradictions(self):
            raise ValueError(f"engine {self.name!r}: {'; '.join(problems)}")

    @property
    def pools(self) -> tuple[str, ...]:
        """The work pools that can run it, best first."""
        return tuple(dict.fromkeys(pool_of(device) for device in self.devices))

    def model(self, name: str = "") -> ModelSpec:
        """A model by name, the default for an empty one. Raises `NotFound` with the names there are."""
        for model in self.models:
            if name in {"", model.name}:
                return model
        names = ", ".join(model.name for model in self.models)
        raise NotFound(f"engine {self.name} has no model {name!r}; it has {names}", engine=self.name, model=name)

    def stems_of(self, model: str = "") -> tuple[str, ...]:
        """The stems that a model makes."""
        return self.model(model).stems or self.stems

    def sample_rate_of(self, model: str = "") -> int | None:
        """The sample rate in Hz that a model takes; None: any."""
        return self.model(model).sample_rate or self.sample_rate

    def memory_for(
        self, frames: int, rate: int, *, model: str = "", values: Mapping[str, ParameterValue] | None = None
    ) -> int:
        """Estimated peak bytes of the host for `frames` samples per channel at `rate` Hz, on the CPU."""
        return self.memory_of(model).estimate(frames, rate, self.resolve(values or {}))

    def memory_of(self, model: str = "", variant: str = "") -> MemoryModel:
        """What a model takes in a variant of the environment (the usual one for an empty name)."""
        environment = self.environment
        if variant and isinstance(environment, PrivateEnvironment):
            for one in environment.choices:
                if one.name == variant and one.memory is not None:
                    return one.memory
        return self.model(model).memory or self.memory

    def resolve(self, values: Mapping[str, object]) -> dict[str, ParameterValue]:
        """Every parameter with its value or default. Raises `BadRequest` that lists all problems at once."""
        return parameters_module.resolve(self.parameters, values, f"engine {self.name}")

    def parse(self, texts: Mapping[str, str]) -> dict[str, ParameterValue]:
        """Parameters typed as text (command line, watch-root rules), resolved. Raises `BadRequest`."""
        known = {parameter.name: parameter for parameter in self.parameters}
        return self.resolve({name: known[name].parse(text) if name in known else text for name, text in texts.items()})

    def result_key(self, model: str, values: Mapping[str, ParameterValue]) -> dict[str, Any]:
        """What the separated samples depend on, JSON-ready: for the digests of markers and duplicate checks."""
        affecting = {parameter.name for parameter in self.parameters if parameter.affects_result}
        chosen = self.model(model)
        return {
            "engine": self.name,
            "version": self.version,
            "model": chosen.name,
            "model_digest": chosen.digest,
            "parameters": {name: value for name, value in sorted(values.items()) if name in affecting},
        }

    def check_stems(self, wanted: Iterable[str], model: str = "") -> tuple[str, ...]:
        """The stems wanted, in the model's order (all for none). Raises `BadRequest` naming those it does not make."""
        made, asked = self.stems_of(model), tuple(wanted)
        if unknown := [stem for stem in asked if stem not in made]:
            raise BadRequest(f"engine {self.name} makes {', '.join(made)}, not {', '.join(unknown)}", engine=self.name)
        return tuple(stem for stem in made if stem in asked) or made

    def to_dict(self) -> dict[str, Any]:
        """The declaration as JSON-ready data, for `--json` and the API."""
        environment = self.environment
        return {
            "name": self.name, "title": self.title, "version": self.version, "api_version": self.api_version,
            "quality": self.quality, "stems": list(self.stems), "sample_rate": self.sample_rate,
            "channels": self.channels, "devices": list(self.devices), "pools": list(self.pools),
            "exact_sum": self.exact_sum, "private_environment": isinstance(environment, PrivateEnvironment),
            "variants": _variants(environment), "converts": bool(self.converter),
            "parameters": [parameter.to_dict() for parameter in self.parameters],
            "models": [
                {
                    "name": model.name, "title": model.title, "licence": model.licence, "quality": model.quality,
                    "stems": list(self.stems_of(model.name)), "bytes": sum(file.size for file in model.files),
                    "digest": model.digest,
                }
                for model in self.models
            ],
        }  # fmt: skip


def _contradictions(spec: EngineSpec) -> list[str]:
    """Everything in a declaration that cannot be."""
    stems = [*spec.stems, *(stem for model in spec.models for stem in model.stems)]
    names = [model.name for model in spec.models]
    files = [file for model in spec.models for file in model.files]
    settings = [parameter.name for parameter in spec.parameters]
    memories = [spec.memory, *(model.memory for model in spec.models if model.memory)]
    if isinstance(spec.environment, PrivateEnvironment):
        memories += [one.memory for one in spec.environment.choices if one.memory]
    variants = [one["name"] for one in _variants(spec.environment)]
    needed = {
        name
        for memory in memories
        for name in (memory.segment_parameter, memory.batch_parameter, *memory.apart)
        if name
    }
    rules = [
        (not _NAME.fullmatch(spec.name), "the name must be lower-case letters, digits and dashes"),
        (not _ENTRY.fullmatch(spec.entry), f"the entry {spec.entry!r} is not module:callable"),
        (
            bool(spec.converter) and not _ENTRY.fullmatch(spec.converter),
            f"the converter {spec.converter!r} is not module:callable",
        ),
        (len(set(variants)) != len(variants), "two environments to choose from have one name"),
        (
            bool(spec.converter_variant) and spec.converter_variant not in variants,
            f"its converter needs the environment {spec.converter_variant!r}, which it does not have",
        ),
        (not spec.stems, "it makes no stems"),
        (len(set(spec.stems)) != len(spec.stems), "a stem is named twice"),
        (
            any(not _STEM.fullmatch(stem) for stem in stems),
            "stem names must be lower-case letters and digits",
        ),
        (not names, "it has no model (an engine without weights declares one without files)"),
        (len(set(names)) != len(names), "a model is named twice"),
        (any(not is_model_name(name) for name in names), "model names must be lower-case letters, digits and dashes"),
        (any(not _SHA256.fullmatch(file.sha256) for file in files), "a model file's SHA-256 is not 64 hex digits"),
        (any(file.size < 0 or not _inside(file.path) for file in files), "a model file's path or size is impossible"),
        (len(set(settings)) != len(settings), "a parameter is named twice"),
        (bool(needed - set(settings)), "its memory model names a parameter that is not there"),
        (
            any(model.smaller and model.smaller not in names for model in spec.models),
            "a model's smaller one is not there",
        ),
        (not spec.devices, "it can use no device"),
        (spec.channels < 1, "it takes no channel"),
    ]
    return [message for broken, message in rules if broken]


def _variants(environment: SharedEnvironment | PrivateEnvironment) -> list[dict[str, str]]:
    """What there is to choose from, the usual one first; nothing where there is no choice."""
    if not isinstance(environment, PrivateEnvironment) or not environment.variants:
        return []
    return [{"name": one.name, "title": one.title, "python": one.python} for one in environment.choices]


def _inside(path: str) -> bool:
    """Whether a relative path stays in its folder."""
    return bool(path) and not path.startswith("/") and ".." not in path.split("/")
