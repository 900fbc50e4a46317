"""The release check finds what it looks for; `make release-check` runs it whole."""

from __future__ import annotations

import importlib.util
import io
import tarfile
import zipfile
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def check() -> Any:
    """The script as a module."""
    spec = importlib.util.spec_from_file_location("release_check", ROOT / "scripts/release_check.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


GOOD = {
    **{f"{package}/py.typed": "" for package in ("ironclad", "ironclad_flows", "ironclad_tui")},
    "a-1.dist-info/METADATA": "License-Expression: MIT\nRequires-Python: >=3.11\n",
    "a-1.dist-info/entry_points.txt": "[console_scripts]\nironclad = ironclad.cli.main:main\n",
    "a-1.dist-info/licenses/LICENSE": "MIT",
}


def wheel(folder: Path, **changes: str | None) -> Path:
    path = folder / "a.whl"
    with zipfile.ZipFile(path, "w") as file:
        for name, text in {**GOOD, **changes}.items():
            if text is not None:
                file.writestr(name, text)
    return path


def test_a_good_wheel_has_no_problem(check: Any, tmp_path: Path) -> None:
    assert check.problems_of_wheel(wheel(tmp_path)) == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"tests/conftest.py": ""}, "top-level names"),
        ({"ironclad/py.typed": None}, "no py.typed"),
        ({"ironclad/model.onnx": ""}, "holds ironclad/model.onnx"),
        ({"ironclad/secrets/key": ""}, "holds ironclad/secrets/key"),
        ({"a-1.dist-info/licenses/LICENSE": None}, "no licence file"),
        ({"a-1.dist-info/entry_points.txt": ""}, "no console script"),
        ({"a-1.dist-info/METADATA": "Requires-Python: >=3.11\n"}, "License-Expression"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_each_problem_of_a_wheel_is_named(check: Any, tmp_path: Path, changes: dict[str, str], said: str) -> None:
    assert any(said in problem for problem in check.problems_of_wheel(wheel(tmp_path, **changes)))


def test_each_problem_of_a_source_distribution_is_named(check: Any, tmp_path: Path) -> None:
    path = tmp_path / "a.tar.gz"
    with tarfile.open(path, "w:gz") as file:
        for name in (*(name for name in check.IN_SDIST if name != "LICENSE"), "x/__pycache__/a.pyc"):
            file.addfile(tarfile.TarInfo(f"a-1/{name}"), io.BytesIO())
    assert check.problems_of_sdist(path) == ["sdist: lacks LICENSE", "sdist: holds x/__pycache__/a.pyc"]


def test_every_dependency_is_found_and_names_its_licence(check: Any) -> None:
    found = {distribution.name.lower(): distribution for distribution in check.dependencies()}
    assert {"prefect", "psycopg", "numpy", "mutagen"} <= found.keys(), "named by us"
    assert {"sqlalchemy", "httpcore"} <= found.keys(), "named by what we name"
    assert "pytest" not in found
    assert [name for name, one in found.items() if check.licence(one) == "not named"] == []


def test_the_bill_of_materials_names_each_with_its_version(check: Any) -> None:
    bill = check.sbom("1.2.3", [metadata.distribution("numpy")])
    assert bill["metadata"]["component"]["purl"] == "pkg:pypi/ironclad-audio@1.2.3"
    (numpy,) = bill["components"]
    assert numpy["purl"] == f"pkg:pypi/numpy@{metadata.version('numpy')}"
    assert numpy["licenses"][0]["license"]["name"]
