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
    job_uuid="0190", trace_id="abc", kind="instrumental", source_blake3="aa", source_samples=480_000,
    source_sample_rate=48_000, blake3="bb", bytes=1000, samples=480_000, sample_rate=48_000, channels=2,
    same_length=True, offset_samples=0, format="flac", file="01 [x].flac", sample_peak_db=-6.02, true_peak_db=-5.85,
    source_lufs=-9.5, lufs=-12, residual_db=-80.2, bleed_db=-18.0, engine="center [x]", engine_version="1", model="m",
    model_digest="ab" * 32, parameters={"window": 4096}, category="music", ironclad="0.1",
    versions={"numpy": "2"}, started_at="2026-11-22T12:00:00+00:00", finished_at="2026-11-22T12:00:09+00:00",
    seconds={"separate": 3.25, "encode": 1},
)  # fmt: skip


def test_it_survives_json() -> None:
    assert Receipt.from_bytes(RECEIPT.to_bytes()) == RECEIPT
    assert json.loads(RECEIPT.to_bytes())["schema_version"] == SCHEMA
    assert RECEIPT.to_bytes() == Receipt.from_bytes(RECEIPT.to_bytes()).to_bytes()


def test_entries_of_a_later_version_are_kept() -> None:
    receipt = Receipt.from_dict(RECEIPT.to_dict() | {"surprise": [1]})
    assert receipt.more == {"surprise": [1]}
    assert receipt.to_dict()["surprise"] == [1]


def test_infinities_become_nothing() -> None:
    silent = replace(RECEIPT, lufs=-math.inf, residual_db=math.nan, sample_peak_db=None)
    back = Receipt.from_bytes(silent.to_bytes())
    assert (back.lufs, back.residual_db, back.sample_peak_db) == (None, None, None)


def broken(**changes: Any) -> dict[str, Any]:
    data = RECEIPT.to_dict() | changes
    return {name: value for name, value in data.items() if value is not ...}


@pytest.mark.parametrize(
    "data",
    [
        broken(schema_version=SCHEMA + 1), broken(schema_version=...), broken(schema_version="1"),
        broken(job_uuid=...), broken(samples="many"), broken(samples=1.5), broken(kind=None), broken(same_length=1),
        broken(true_peak_db="loud"), broken(parameters=[1]), broken(sample_rate=True), broken(model=3),
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
        "kind": "instrumental",
        "output": "flac, 480000 samples at 48000 Hz, 10.00 s",
        "length": "equal to the source, offset 0",
        "sample peak": "-6.02 dBFS",
        "true peak": "-5.85 dBTP",
        "loudness": "-9.5 LUFS source, -12.0 LUFS output",
        "residual": "-80.20 dB",
        "bleed (estimate)": "-18.00 dB",
        "gain": "none",
        "engine": "center [x] 1",
        "model": "m abababababab",
        "time": "4.2 s",
    }


def test_the_summary_leaves_out_what_was_not() -> None:
    bare = replace(
        RECEIPT, sample_peak_db=None, true_peak_db=None, source_lufs=None, lufs=None, residual_db=None, bleed_db=None,
        gain_db=-1.5, model=None, model_digest=None, seconds={}, same_length=False, offset_samples=3,
    )  # fmt: skip
    summary = bare.summary()
    assert summary.keys() == {"kind", "output", "length", "gain", "engine"}
    assert summary["length"] == "NOT equal to the source, offset 3"
    assert summary["gain"] == "-1.50 dB"
    assert replace(RECEIPT, device="cpu", backend="openvino").summary()["device"] == "cpu openvino"
    assert replace(RECEIPT, offset_samples=5).summary()["length"] == "equal to the source, offset 5"


def test_rich_prints_it() -> None:
    out = io.StringIO()
    Console(file=out, width=100, color_system=None).print(RECEIPT)
    assert "center [x] 1" in out.getvalue()
    assert "-5.85 dBTP" in out.getvalue()


def test_the_sidecar_lies_beside_the_track_and_its_name_fits() -> None:
    assert sidecar(Path("a/01 - T.flac")) == Path("a/01 - T.flac.receipt.json")
    assert len(sidecar(Path("x" * MAX_FILE)).name) <= 255
