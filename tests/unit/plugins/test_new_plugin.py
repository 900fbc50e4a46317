"""`ironclad plugins new`: whole or not at all, clean by its own rules, and nothing that was there is touched."""

from __future__ import annotations

import ast
import errno
import subprocess
import sys
import tomllib
from importlib import metadata
from typing import TYPE_CHECKING

import pytest

from ironclad import durable, errors
from ironclad.plugins import scaffold

if TYPE_CHECKING:
    from pathlib import Path


def test_a_package_is_written(tmp_path: Path) -> None:
    written = scaffold.write("engine", "two-halves", tmp_path)
    assert written.folder == tmp_path / "ironclad-engine-two-halves"
    assert [path.name for path in tmp_path.iterdir()] == [written.folder.name]
    found = {str(path.relative_to(written.folder)) for path in written.folder.rglob("*") if path.is_file()}
    assert found == set(written.files)
    assert {
        "pyproject.toml", "README.md", "LICENSE", "src/ironclad_engine_two_halves/plugin.py",
        "src/ironclad_engine_two_halves/separator.py", "tests/test_contract.py",
    } <= found  # fmt: skip
    project = tomllib.loads((written.folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["name"] == "ironclad-engine-two-halves"
    assert project["entry-points"]["ironclad"] == {"two-halves": "ironclad_engine_two_halves.plugin"}
    separator = ast.parse((written.folder / "src/ironclad_engine_two_halves/separator.py").read_text(encoding="utf-8"))
    assert "TwoHalvesSeparator" in {node.name for node in separator.body if isinstance(node, ast.ClassDef)}
    plugin = (written.folder / "src/ironclad_engine_two_halves/plugin.py").read_text(encoding="utf-8")
    assert f'LOCK = ("numpy=={metadata.version("numpy")}",)' in plugin
    assert "$" not in plugin


def test_a_notifier_is_written(tmp_path: Path) -> None:
    written = scaffold.write("notifier", "two-lamps", tmp_path)
    assert written.folder == tmp_path / "ironclad-notifier-two-lamps"
    assert {
        "pyproject.toml", "README.md", "LICENSE", ".gitignore", "src/ironclad_notifier_two_lamps/__init__.py",
        "src/ironclad_notifier_two_lamps/plugin.py", "src/ironclad_notifier_two_lamps/notifier.py",
        "src/ironclad_notifier_two_lamps/py.typed", "tests/conftest.py", "tests/test_notifier.py",
    } == set(written.files)  # fmt: skip
    project = tomllib.loads((written.folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["entry-points"]["ironclad"] == {"two-lamps": "ironclad_notifier_two_lamps.plugin"}
    assert not [path for path in written.folder.rglob("*") if path.is_file() and "$" in path.read_text()]


def test_the_notifier_that_is_written_passes_its_tests(tmp_path: Path) -> None:
    clean(scaffold.write("notifier", "a", tmp_path).folder, "pytest", "-p", "no:randomly")


def clean(folder: Path, *command: str) -> None:
    done = subprocess.run([sys.executable, "-m", *command], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"


@pytest.mark.parametrize("kind", scaffold.KINDS)
@pytest.mark.parametrize("name", ["a", "clean", "abcdefghij-abcdefghij-abcdefgh"])
def test_what_is_written_is_clean_by_its_own_rules(kind: str, name: str, tmp_path: Path) -> None:
    folder = scaffold.write(kind, name, tmp_path).folder
    clean(folder, "ruff", "check", ".")
    clean(folder, "ruff", "format", "--check", ".")


@pytest.mark.chaos  # half a minute: it reads NumPy's types
@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", scaffold.KINDS)
def test_what_is_written_has_strict_types(kind: str, tmp_path: Path) -> None:
    clean(scaffold.write(kind, "typed", tmp_path).folder, "mypy")


@pytest.mark.parametrize(
    "name", ["", "Halves", "2halves", "hal ves", "-x", "x-", "x--y", "../x", "x/y", "x.y", "x_y", "é", "x" * 31, "$x"]
)
def test_a_name_that_cannot_be_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(errors.BadRequest, match="no name for a plugin"):
        scaffold.write("engine", name, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("kind", "name"), [("engine", "center"), ("notifier", "webhook"), ("notifier", "apprise")])
def test_a_name_that_is_taken_is_refused(kind: str, name: str, tmp_path: Path) -> None:
    with pytest.raises(errors.BadRequest, match=f"'{name}' is installed here"):
        scaffold.write(kind, name, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("there", ["folder", "file", "dangling link"])
def test_what_is_there_stays(there: str, tmp_path: Path) -> None:
    taken = tmp_path / "ironclad-engine-mine"
    if there == "folder":
        taken.mkdir()
        (taken / "work").write_text("of weeks")
    elif there == "file":
        taken.write_text("of weeks")
    else:
        taken.symlink_to(tmp_path / "nowhere")
    with pytest.raises(errors.BadRequest, match="there already"):
        scaffold.write("engine", "mine", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [taken.name]


def test_somebody_who_is_quicker_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder appears while ours is written."""
    taken = tmp_path / "ironclad-engine-mine"
    real = durable.move_folder

    def late(source: Path, target: Path) -> None:
        taken.mkdir()
        (taken / "work").write_text("of weeks")
        real(source, target)

    monkeypatch.setattr(durable, "move_folder", late)
    with pytest.raises(errors.BadRequest, match="there already"):
        scaffold.write("engine", "mine", tmp_path)
    assert [path.name for path in tmp_path.rglob("*")] == [taken.name, "work"]


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, count = durable.write_atomic, 0

    def fill(path: Path, data: bytes) -> None:
        nonlocal count
        count += 1
        if count == 5:
            raise errors.DiskFull(str(OSError(errno.ENOSPC, "full")))
        real(path, data)

    monkeypatch.setattr(durable, "write_atomic", fill)
    with pytest.raises(errors.DiskFull):
        scaffold.write("engine", "mine", tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_parent_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(errors.BadRequest, match="is not a folder"):
        scaffold.write("engine", "mine", tmp_path / "none")


def test_the_templates_are_all_there_is_a_kind_of(tmp_path: Path) -> None:
    with pytest.raises(errors.BadRequest, match="templates for engine, notifier"):
        scaffold.write("toaster", "mine", tmp_path)
