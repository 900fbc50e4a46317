"""What was done to make a track and what was measured: the receipt that lies beside it and in the database."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields
from math import isfinite
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    import builtins
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from rich.table import Table

SCHEMA = 1
"""Version of the JSON form; readers accept this one and older ones."""
SUFFIX = ".receipt.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """Everything that `ironclad verify` and a doubtful listener need. What was not measured is None.

    Lengths are in samples per channel. Levels are in dB against full scale, of the published file's samples; digital
    silence has none.
    """

    job_uuid: str
    trace_id: str
    kind: str
    """instrumental, vocals, drums, …"""
    recipe: str = ""
    """What it was mixed from: `mixture - vocals`."""

    source_blake3: str | None
    """BLAKE3 of the source's bytes, in hex."""
    source_samples: int
    source_sample_rate: int
    blake3: str
    """BLAKE3 of the published file, in hex."""
    bytes: int
    samples: int
    sample_rate: int
    channels: int
    same_length: bool
    """Whether it is as long as the source, sample for sample (before a change of rate)."""
    offset_samples: int
    """Where its first sample lies in the source; 0 is right."""
    format: str
    """flac, mp3, …"""
    file: str = ""
    """The published file's name."""
    result: str = ""
    """What tells it from an earlier result of the same song that was kept; empty for one that is alone, or first."""

    gain_db: float = 0.0
    """Applied to prevent clipping; 0 in nearly every case."""
    clipped_samples: int = 0
    sample_peak_db: float | None = None
    true_peak_db: float | None = None
    """Four times oversampled (ITU-R BS.1770, annex 2)."""
    source_lufs: float | None = None
    """Integrated loudness of the mixture (ITU-R BS.1770)."""
    lufs: float | None = None
    residual_db: float | None = None
    """Energy of mixture - sum of stems against the mixture's: -60 and below is inaudible."""
    bleed_db: float | None = None
    """Estimate of what is left of the removed stem, against the output."""

    engine: str = ""
    engine_version: str = ""
    model: str | None = None
    model_digest: str | None = None
    """SHA-256 of the model, in hex; None for engines without weights."""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    """What the engine was told: JSON data."""
    device: str = ""
    """cpu, cuda:0, …"""
    backend: str = ""
    """What ran the networks: pytorch, openvino, onnxruntime, …; empty for engines that know only one way."""
    steps: Sequence[Any] = ()
    """What had to be stepped down for want of memory, in order: JSON data; empty in nearly every case."""
    category: str = ""
    """What the source was taken for: music, …"""
    ironclad: str = ""
    """Version that made it."""
    versions: Mapping[str, Any] = field(default_factory=dict)
    """Of the libraries that touched samples."""
    started_at: str = ""
    """ISO 8601 with offset, UTC."""
    finished_at: str = ""
    seconds: Mapping[str, Any] = field(default_factory=dict)
    """Time spent, by stage."""
    more: Mapping[str, Any] = field(default_factory=dict)
    """Entries that this version does not know, kept as they are."""

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready data: infinities, which JSON has not, become null."""
        data: dict[str, Any] = {"schema_version": SCHEMA, **self.more}
        for entry in fields(self):
            if entry.name == "more":
                continue
            value = getattr(self, entry.name)
            if isinstance(value, float) and not isfinite(value):
                value = None
            if entry.name in _MAPPINGS:
                value = dict(value)
            elif entry.name in _LISTS:
                value = list(value)
            data[entry.name] = value
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """What `to_dict` described. Raises ValueError for another schema, missing fields or wrong types."""
        version = data.get("schema_version")
        if not isinstance(version, int) or not 1 <= version <= SCHEMA:
            raise ValueError(f"a receipt of schema {version!r} is not understood")
        values: dict[str, Any] = {"more": {}}
        for name, value in data.items():
            if name == "schema_version":
                continue
            if name not in _TYPES:
                values["more"][name] = value
            elif _fits(value, _TYPES[name]):
                values[name] = tuple(value) if name in _LISTS else value
            else:
                raise ValueError(f"{name} of a receipt cannot be {value!r:.80}")
        try:
            return cls(**values)
        except TypeError as exc:
            raise ValueError(f"the receipt is incomplete: {exc}") from exc

    def to_bytes(self) -> builtins.bytes:
        """The sidecar's bytes: JSON with sorted keys, the same for the same receipt."""
        return (
            json.dumps(self.to_dict(), indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False).encode() + b"\n"
        )

    @classmethod
    def from_bytes(cls, content: builtins.bytes) -> Self:
        """What `to_bytes` wrote. Raises ValueError."""
        data = json.loads(content)
        if not isinstance(data, dict):
            raise ValueError("a receipt is a JSON object")  # noqa: TRY004 -- one error for all that is no receipt
        return cls.from_dict(data)

    @property
    def duration(self) -> float:
        """Length in seconds."""
        return self.samples / self.sample_rate

    def summary(self) -> dict[str, str]:
        """The receipt in words, label → value; what was not measured is left out."""
        rows = {
            "kind": self.kind,
            "mixed from": self.recipe,
            "output": f"{self.format}, {self.samples} samples at {self.sample_rate} Hz, {self.duration:.2f} s",
            "length": _length(same=self.same_length, offset=self.offset_samples),
            "sample peak": _level(self.sample_peak_db, "dBFS"),
            "true peak": _level(self.true_peak_db, "dBTP"),
            "loudness": _loudness(self.source_lufs, self.lufs),
            "residual": _level(self.residual_db, "dB"),
            "bleed (estimate)": _level(self.bleed_db, "dB"),
            "gain": _level(self.gain_db, "dB") if self.gain_db else "none",
            "engine": f"{self.engine} {self.engine_version}".strip(),
            "device": " ".join(text for text in (self.device, self.backend) if text),
            "stepped down": ", ".join(str(step.get("step", "")) for step in self.steps),
            "model": " ".join(text for text in (self.model, (self.model_digest or "")[:12]) if text),
            "time": f"{sum(self.seconds.values()):.1f} s" if self.seconds else "",
        }
        return {name: value for name, value in rows.items() if value}

    def __rich__(self) -> Table:
        """The summary as a table, for rich."""
        from rich.table import Table  # noqa: PLC0415 -- only fronts that print need rich

        table = Table(show_header=False, box=None, pad_edge=False)
        for name, value in self.summary().items():
            table.add_row(f"[bold]{name}[/bold]", value.replace("[", r"\["))
        return table


def sidecar(track: Path) -> Path:
    """Where a track's receipt lies: `01 - Title.flac` → `01 - Title.flac.receipt.json`.

    The whole name is kept, so that two formats of one title have two receipts. File names that
    `ironclad.library.names` makes leave room for the suffix.
    """
    return track.with_name(track.name + SUFFIX)


_MAPPINGS = frozenset({"parameters", "versions", "seconds"})
_LISTS = frozenset({"steps"})
_KINDS: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "int": (int,),
    "bool": (bool,),
    "float": (int, float),
    "str | None": (str, type(None)),
    "float | None": (int, float, type(None)),
}
_TYPES = {
    entry.name: (dict,) if entry.name in _MAPPINGS else (list,) if entry.name in _LISTS else _KINDS[str(entry.type)]
    for entry in fields(Receipt)
    if entry.name != "more"
}


def _fits(value: Any, types: tuple[type, ...]) -> bool:
    """Whether JSON data is of a field's type; a truth value, which Python counts among the numbers, is none."""
    return isinstance(value, types) and (bool in types or not isinstance(value, bool))


def _length(*, same: bool, offset: int) -> str:
    if same and offset == 0:
        return "equal to the source, offset 0"
    return f"{'equal to' if same else 'NOT equal to'} the source, offset {offset}"


def _level(value: float | None, unit: str) -> str:
    return f"{value:.2f} {unit}" if value is not None else ""


def _loudness(source: float | None, output: float | None) -> str:
    named = (("source", source), ("output", output))
    return ", ".join(f"{value:.1f} LUFS {name}" for name, value in named if value is not None)
