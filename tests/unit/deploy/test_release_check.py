"""The release check finds what it looks for; `make release-check` runs it whole."""

from __future__ import annotations

import importlib.util
import io
import shutil
import subprocess
import sys
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


FAKE_AUDIT = """
import argparse, json, sys
parser = argparse.ArgumentParser()
for name in ("--format", "--progress-spinner", "-r"):
    parser.add_argument(name, required=True)
for name in ("--no-deps", "--disable-pip"):
    parser.add_argument(name, action="store_true")
options = parser.parse_args()
lines = open(options.r).read().split()
if sys.flags.optimize:
    sys.exit("ConnectionError: nobody there")
vulns = [{"id": "PYSEC-1", "fix_versions": ["9"]}]
pairs = [line.split("==") for line in lines]
rows = [{"name": name, "version": at, "vulns": vulns if name == "pluggy" else []} for name, at in pairs]
unknown = sys.argv[0].rpartition("/")[2].split("-")[1:]
rows = [{"name": row["name"], "skip_reason": "not found"} if row["name"] in unknown else row for row in rows]
print(json.dumps({"dependencies": rows}))
sys.exit(1)
"""


def test_known_vulnerabilities_are_problems(check: Any, tmp_path: Path) -> None:
    fake = tmp_path / "pip_audit.py"
    fake.write_text(FAKE_AUDIT, encoding="utf-8")
    found = [metadata.distribution(name) for name in ("httpx", "pluggy")]
    bad, words = check.audit(found, [sys.executable, str(fake)])
    assert bad == [f"pluggy {metadata.version('pluggy')} has PYSEC-1 (fixed in 9)"]
    assert "2 dependencies" in words


def test_what_the_source_of_the_audit_does_not_know_was_not_audited(check: Any, tmp_path: Path) -> None:
    found = [metadata.distribution(name) for name in ("httpx", "pluggy")]
    for unknown, expected in {
        "httpx": "pip-audit asked about 1 dependencies; NOT AUDITED: httpx",
        "httpx-pluggy": "NOT AUDITED: pip-audit's source knows none of 2 dependencies",
    }.items():
        fake = tmp_path / f"audit-{unknown}"
        fake.write_text(FAKE_AUDIT, encoding="utf-8")
        assert check.audit(found, [sys.executable, str(fake)])[1] == expected


def test_an_audit_that_could_not_be_made_is_said_and_is_no_problem(check: Any, tmp_path: Path) -> None:
    fake = tmp_path / "pip_audit.py"
    fake.write_text(FAKE_AUDIT, encoding="utf-8")
    found = [metadata.distribution("pluggy")]
    bad, words = check.audit(found, [sys.executable, "-O", str(fake)])
    assert (bad, words) == ([], "NOT AUDITED: pip-audit has no answer from its source: ConnectionError: nobody there")
    assert "NOT AUDITED" in check.audit(found, ["/nonexistent"])[1]


@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="there is no ssh-keygen here")
def test_checksums_are_signed_so_that_users_can_verify_them(check: Any, tmp_path: Path) -> None:
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True, timeout=60)
    sums = tmp_path / "SHA256SUMS"
    sums.write_text("00  a.whl\n", encoding="utf-8")
    signature = check.sign(sums, key)
    guide = (ROOT / "docs/releasing.md").read_text(encoding="utf-8")
    (command,) = [line.strip() for line in guide.splitlines() if "ssh-keygen -Y verify" in line]
    assert subprocess.run(["sh", "-c", command], cwd=tmp_path, check=False, timeout=60).returncode == 0
    sums.write_text("01  a.whl\n", encoding="utf-8")
    assert subprocess.run(["sh", "-c", command], cwd=tmp_path, check=False, timeout=60).returncode != 0
    assert signature.name == "SHA256SUMS.sig"
