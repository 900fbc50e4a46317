"""The wheel: what is in it, and that it runs in a clean environment."""

from __future__ import annotations

import json
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(ROOT)],
        check=True, capture_output=True, timeout=120,
    )  # fmt: skip
    (built,) = out.glob("*.whl")
    return built


def test_three_packages_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names if ".dist-info/" not in name}
    assert tops == {"ironclad", "ironclad_flows", "ironclad_tui"}
    assert {f"{top}/py.typed" for top in tops} <= set(names)
    assert "ironclad/db/migrations/versions/0001_first_schema.py" in names
    assert not [name for name in names if "test" in name.split("/")[0] or name.endswith((".pyc", ".th", ".onnx"))]


def test_it_runs_in_a_clean_environment(wheel: Path, tmp_path: Path) -> None:
    home = tmp_path / "venv"
    venv.create(home, with_pip=True)
    python = home / "bin" / "python"
    subprocess.run(
        [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", str(wheel)],
        check=True, timeout=300, capture_output=True,
    )  # fmt: skip
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "IRONCLAD_DATA_DIR": str(tmp_path / "data")}

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [home / "bin" / "ironclad", *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True,
            timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert "process" in run("--help")
    assert {engine["name"] for engine in json.loads(run("engines", "list", "--json"))["engines"]} == {"center"}
    run("demo-songs", str(tmp_path / "songs"))
    song = next((tmp_path / "songs").rglob("*.flac"))
    run("process", str(song), "-o", str(tmp_path / "out"))
    assert [path.suffix for path in (tmp_path / "out").iterdir() if not path.name.endswith(".json")] == [".flac"]
    check = subprocess.run([python, "-m", "pip", "check"], capture_output=True, text=True, timeout=60, check=False)
    assert check.returncode == 0, check.stdout
    listed = subprocess.run([python, "-m", "pip", "list"], capture_output=True, text=True, timeout=60, check=True)
    assert not {"torch", "tensorflow"} & {line.split()[0] for line in listed.stdout.splitlines()}
