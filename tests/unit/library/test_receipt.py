from __future__ import annotations

import io
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from ironclad.library.names import MAX_FILE
from ironclad.library.receipt import SCHEMA, Receipt, sidecar

RECEIPT = Receipt(
    job_uuid="0190", trace_id="abc", stem="instrumental", source_name="01 [x].flac", source_digest="aa",
    source_frames=480_000, output_digest="bb", output_bytes=1000, output_frames=480_000, offset_frames=0,
    sample_rate=48_000, channels=2,
    format="flac", sample_peak=0.5, true_peak=0.51, source_loudness=-9.5, output_loudness=-12, residual_db=-80.2,
    bleed_db=-18.0, engine="center", engine_version="1", model_digests=("ab" * 32,), parameters={"window": 4096},
    versions={"ironclad": "0.1"}, started_at="2026-11-22T12:00:00+00:00", finished_at="2026-11-22T12:00:09+00:00",
    seconds={"separate": 3.25, "encode": 1},
)  # fmt: skip


def test_it_survives_json() -> None:
    assert Receipt.from_bytes(RECEIPT.to_bytes()) == RECEIPT
    assert json.loads(RECEIPT.to_bytes())["schema_version"] == SCHEMA
    assert RECEIPT.to_bytes() == Receipt.from_bytes(RECEIPT.to_bytes()).to_bytes()


def test_infinities_become_nothing() -> None:
    silent = replace(RECEIPT, output_loudness=-math.inf, residual_db=math.nan, sample_peak=0.0)
    back = Receipt.from_bytes(silent.to_bytes())
    assert (back.output_loudness, back.residual_db, back.sample_peak) == (None, None, 0.0)


def broken(**changes: Any) -> dict[str, Any]:
    data = RECEIPT.to_dict() | changes
    return {name: value for name, value in data.items() if value is not ...}


@pytest.mark.parametrize(
    "data",
    [
        broken(schema_version=SCHEMA + 1), broken(schema_version=...), broken(schema_version="1"),
        broken(surprise=1), broken(job_uuid=...), broken(output_frames="many"), broken(output_frames=1.5),
        broken(stem=None), broken(true_peak="loud"), broken(parameters=[1]), broken(sample_rate=True),
    ],
)  # fmt: skip
def test_other_data_is_refused(data: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="receipt"):
        Receipt.from_dict(data)


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff", b"null", b"{}"])
def test_other_bytes_are_refused(content: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 -- JSON's own errors and ours
        Receipt.from_bytes(content)


def test_the_summary_says_what_was_measured() -> None:
    assert RECEIPT.summary() == {
        "stem": "instrumental",
        "source": "01 [x].flac (480000 samples)",
        "output": "flac, 480000 samples at 48000 Hz, 10.00 s",
        "length": "equal to the source, offset 0",
        "sample peak": "-6.02 dBFS",
        "true peak": "-5.85 dBTP",
        "loudness": "-9.5 LUFS source, -12.0 LUFS output",
        "residual": "-80.2 dB",
        "bleed (estimate)": "-18.0 dB",
        "gain": "none",
        "engine": "center 1",
        "model": "abababababab",
        "time": "4.2 s",
    }


def test_the_summary_leaves_out_what_was_not() -> None:
    bare = replace(
        RECEIPT, sample_peak=0.0, true_peak=None, source_loudness=None, output_loudness=None, residual_db=None,
        bleed_db=None, gain_db=-1.5, model_digests=(), seconds={}, output_frames=480_010, offset_frames=3,
    )  # fmt: skip
    summary = bare.summary()
    assert summary.keys() == {"stem", "source", "output", "length", "gain", "engine"}
    assert summary["length"] == "+10 samples against the source, offset 3"
    assert summary["gain"] == "-1.5 dB"


def test_rich_prints_it() -> None:
    out = io.StringIO()
    Console(file=out, width=100, color_system=None).print(RECEIPT)
    assert "01 [x].flac (480000 samples)" in out.getvalue()
    assert "-5.85 dBTP" in out.getvalue()


def test_the_sidecar_lies_beside_the_track_and_its_name_fits() -> None:
    assert sidecar(Path("a/01 - T.flac")) == Path("a/01 - T.flac.receipt.json")
    assert len(sidecar(Path("x" * MAX_FILE)).name) <= 255
