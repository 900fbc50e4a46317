"""`make demo`: what a newcomer sees first must work, clean up after itself, and be quick."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ironclad.cli.commands import demo
from ironclad.ops import directory

pytestmark = [pytest.mark.services, pytest.mark.slow, pytest.mark.timeout(300), pytest.mark.xdist_group("services")]


def test_the_demo(tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    done = subprocess.run(
        [sys.executable, "-m", "ironclad.cli.main", "demo", "--keep", str(folder), "--json"],
        capture_output=True, text=True, check=False, timeout=280,
        env={**os.environ, "IRONCLAD_DATABASE_URL": "postgresql://nobody@nowhere/precious"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    data = json.loads(done.stdout)
    assert set(data) == set(demo.JSON["demo"])
    assert data["ok"] is True
    assert data["problems"] == []
    assert [song["state"] for song in data["songs"]] == ["succeeded"] * 3
    for song in data["songs"]:
        assert Path(song["path"]).is_relative_to(folder / "data" / "output")
        assert song["sdr_db"] > song["mixture_sdr_db"] + 3
    assert not any(entry.alive for entry in directory.announced(folder / "data" / "run"))
    assert not (folder / "data" / "postgres" / "postmaster.pid").exists()
    assert not list((folder / "data" / "input").rglob("*.flac"))
