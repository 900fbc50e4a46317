"""What was done to make a track and what was measured: the receipt that lies beside it and in the database."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields
from math import log10
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from rich.table import Table

SCHEMA = 1
"""Version of the JSON form; readers accept this one and older ones."""
SUFFIX = ".receipt.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """Everything that `ironclad verify` and a doubtful listener need. Measurements that were not made are None.

    Levels are of the published file after decoding; -inf (digital silence) is written as null and read as None.
    """

    job_uuid: str
    trace_id: str
    stem: str
    """instrumental, vocals, drums, …"""

    source_name: str
    """The source's file name; its path stays private."""
    source_digest: str
    """BLAKE3 of the source's bytes, in hex."""
    source_frames: int
    """Length in samples per channel."""
    output_digest: str
    """BLAKE3 of the published file, in hex."""
    output_bytes: int
    output_frames: int
    offset_frames: int
    """Where the output's first sample lies in the source; 0 is right."""
    sample_rate: int
    """Of the output, in hertz."""
    channels: int
    format: str
    """flac, mp3, …"""

    sample_peak: float | None = None
    """Linear, 1.0 = full scale."""
    true_peak: float | None = None
    """Linear, four times oversampled (ITU-R BS.1770, annex 2)."""
    source_loudness: float | None = None
    """Integrated, LUFS (ITU-R BS.1770)."""
    output_loudness: float | None = None
    residual_db: float | None = None
    """Energy of mixture - sum of stems against the mixture's, in dB: -60 and below is inaudible."""
    bleed_db: float | None = None
    """Estimate of what is left of the removed stem, in dB against the output."""
    gain_db: float = 0.0
    """Applied to prevent clipping; 0 in nearly every case."""

    engine: str = ""
    engine_version: str = ""
    model_digests: tuple[str, ...] = ()
    """SHA-256 of the model's files, in hex."""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    """What the engine was told: JSON data."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """Of Ironclad and the libraries that touched samples."""
    started_at: str = ""
    """ISO 8601 with offset, UTC."""
    finished_at: str = ""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """Time spent, by stage."""

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready data."""
        data: dict[str, Any] = {"schema_version": SCHEMA}
        for entry in fields(self):
            value = getattr(self, entry.name)
            if entry.name in _MEASURES:
                value = _finite(value)
            elif isinstance(value, tuple):
                value = list(value)
            elif entry.name in _MAPPINGS:
                value = dict(value)
            data[entry.name] = value
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """What `to_dict` described. Raises ValueError for another schema, missing or unknown fields or wrong types."""
        version = data.get("schema_version")
        if not isinstance(version, int) or not 1 <= version <= SCHEMA:
            raise ValueError(f"a receipt of schema {version!r} is not understood")
        values = {name: value for name, value in data.items() if name != "schema_version"}
        unknown = values.keys() - {entry.name for entry in fields(cls)}
        if unknown:
            raise ValueError(f"a receipt has no field {min(unknown)!r}")
        for name, value in values.items():
            if not isinstance(value, _TYPES[name]) or isinstance(value, bool):
                raise ValueError(f"{name} of a receipt cannot be {value!r:.80}")  # noqa: TRY004 -- one error for all that is no receipt
        values["model_digests"] = tuple(values.get("model_digests", ()))
        try:
            return cls(**values)
        except TypeError as exc:
            raise ValueError(f"the receipt is incomplete: {exc}") from exc

    def to_bytes(self) -> bytes:
        """The sidecar's bytes: JSON with sorted keys, the same for the same receipt."""
        return (
            json.dumps(self.to_dict(), indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False).encode() + b"\n"
        )

    @classmethod
    def from_bytes(cls, content: bytes) -> Self:
        """What `to_bytes` wrote. Raises ValueError."""
        data = json.loads(content)
        if not isinstance(data, dict):
            raise ValueError("a receipt is a JSON object")  # noqa: TRY004 -- one error for all that is no receipt
        return cls.from_dict(data)

    @property
    def duration(self) -> float:
        """Length of the output in seconds."""
        return self.output_frames / self.sample_rate

    def summary(self) -> dict[str, str]:
        """The receipt in words, label → value; what was not measured is left out."""
        rows = {
            "stem": self.stem,
            "source": f"{self.source_name} ({self.source_frames} samples)",
            "output": f"{self.format}, {self.output_frames} samples at {self.sample_rate} Hz, {self.duration:.2f} s",
            "length": _length(self.output_frames - self.source_frames, self.offset_frames),
            "sample peak": _dbfs(self.sample_peak, "dBFS"),
            "true peak": _dbfs(self.true_peak, "dBTP"),
            "loudness": _loudness(self.source_loudness, self.output_loudness),
            "residual": _db(self.residual_db),
            "bleed (estimate)": _db(self.bleed_db),
            "gain": _db(self.gain_db) if self.gain_db else "none",
            "engine": f"{self.engine} {self.engine_version}".strip(),
            "model": ", ".join(digest[:12] for digest in self.model_digests),
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


_MEASURES = frozenset({
    "sample_peak", "true_peak", "source_loudness", "output_loudness", "residual_db", "bleed_db", "gain_db",
})  # fmt: skip
_MAPPINGS = frozenset({"parameters", "versions", "seconds"})
_TYPES: dict[str, tuple[type, ...]] = {
    entry.name: (
        (dict,)
        if entry.name in _MAPPINGS
        else {"int": (int,), "str": (str,), "float": (int, float), "tuple[str, ...]": (list, tuple)}.get(
            str(entry.type), (int, float, type(None))
        )
    )
    for entry in fields(Receipt)
}


def _finite(value: float | None) -> float | None:
    """JSON has no infinity and no NaN."""
    return value if value is not None and abs(value) < float("inf") else None


def _length(difference: int, offset: int) -> str:
    if difference == 0 and offset == 0:
        return "equal to the source, offset 0"
    return f"{difference:+d} samples against the source, offset {offset}"


def _dbfs(peak: float | None, unit: str) -> str:
    return f"{20 * log10(peak):.2f} {unit}" if peak else ""


def _db(value: float | None) -> str:
    return f"{value:.1f} dB" if value is not None else ""


def _loudness(source: float | None, output: float | None) -> str:
    words = [
        f"{value:.1f} LUFS {name}" for value, name in ((source, "source"), (output, "output")) if value is not None
    ]
    return ", ".join(words)
