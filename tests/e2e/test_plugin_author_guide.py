"""The plugin author's guide, word by word: its own code blocks are run in a fresh folder, with no index to reach.

pip finds a wheel built from this checkout, and wheels packed again from what the tests are installed with: what builds
packages, and what the new engine's environment needs.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
import subprocess
import sys
import sysconfig
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from sinks import HttpSink

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[2]
PATIENCE = 600.0
INSTALLED = ("ironclad", "_ironclad", "__editable__", "pip", "setuptools", "pytest", "_pytest")
"""What the guide installs itself, as far as a program comes with it: the environment does not have it yet."""
_BLOCK = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)
_PYTHON = """#!/bin/sh
# Python, except that a new environment already sees the dependencies.
{python} "$@" || exit $?
if [ "$1 $2" = "-m venv" ]; then
    for packages in "$3"/lib/python*/site-packages; do echo {there} > "$packages/there.pth"; done
fi
"""


def blocks() -> list[str]:
    return _BLOCK.findall((ROOT / "docs/plugin-authors.md").read_text(encoding="utf-8"))


def needed(*names: str) -> set[str]:
    """Distributions and all that they need, here."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = canonicalize_name(waiting.pop())
        if name not in found:
            found.add(name)
            requirements = [Requirement(line) for line in metadata.requires(name) or ()]
            waiting += [one.name for one in requirements if not one.marker or one.marker.evaluate({"extra": ""})]
    return found


def write_wheel(path: Path, info: str, files: dict[str, bytes]) -> None:
    lines = []
    with zipfile.ZipFile(path, "w") as wheel:
        for name, data in files.items():
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            lines.append(f"{name},sha256={digest},{len(data)}")
            wheel.writestr(name, data)
        wheel.writestr(f"{info}/RECORD", "\n".join([*lines, f"{info}/RECORD,,"]))


def packed(name: str, folder: Path) -> None:
    """A wheel of an installed distribution, without its tests and programs."""
    installed = metadata.distribution(name)
    stem = f"{name.replace('-', '_')}-{installed.version}"
    tag = next(line.split(": ")[1] for line in (installed.read_text("WHEEL") or "").splitlines() if line[:4] == "Tag:")
    files = {
        str(file): Path(str(installed.locate_file(file))).read_bytes()
        for file in installed.files or ()
        if not re.search(r"^\.\.|/tests/|\.pyc$|/(RECORD|INSTALLER|REQUESTED|direct_url.json)$", str(file))
    }
    write_wheel(folder / f"{stem}-{tag}.whl", f"{stem}.dist-info", files)


def stand_in(name: str, version: str, folder: Path) -> None:
    """A wheel with nothing in it."""
    info = f"{name}-{version}.dist-info"
    files = {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    write_wheel(folder / f"{name}-{version}-py3-none-any.whl", info, files)


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """An environment in which pip has no index, and finds what the guide needs in a folder."""
    wheels = tmp_path / "wheels"
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", wheels, ROOT],
        check=True, capture_output=True,
    )  # fmt: skip
    for name in needed("hatchling", "numpy", "pytest"):
        packed(name, wheels)
    stand_in("editables", "0.5", wheels)  # hatchling asks for it, and does not use it where there is dev-mode-dirs
    there = tmp_path / "dependencies"
    there.mkdir()
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        if not entry.name.lower().startswith(INSTALLED):
            (there / entry.name).symlink_to(entry)
    programs = tmp_path / "programs"
    programs.mkdir()
    python = programs / "python3"
    python.write_text(_PYTHON.format(python=f"{sys.base_prefix}/bin/python3", there=there), encoding="utf-8")
    python.chmod(0o755)
    ours = ("IRONCLAD_", "PREFECT_", "PYTEST_", "PIP_", "COV_", "COVERAGE_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return {
        **kept, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels), "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_NO_COMPILE": "1", "HOME": str(tmp_path),
        "IRONCLAD_DISK__MIN_FREE_BYTES": "100000000", "PATH": f"{programs}:{os.environ['PATH']}",
    }  # fmt: skip


def typed(text: str, state: Path, environment: dict[str, str]) -> str:
    """Run a block as somebody who types it where the one before ended; what it printed."""
    script = f"[ -e {state} ] && . {state}\nset -eu\n{text}\nset +eu\n{{ export -p; echo cd \"'$PWD'\"; }} > {state}"
    done = subprocess.run(
        ["bash", "-c", script], cwd=state.parent, env=environment, capture_output=True, text=True,
        stdin=subprocess.DEVNULL, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_the_guide_works_as_written(tmp_path: Path, environment: dict[str, str]) -> None:
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    said = [typed(text, fresh / ".state", environment) for text in blocks()]
    install, tests, own, broken, private, song, wheel, notifier = said
    assert re.search(r"^karaoke +loaded", install, re.MULTILINE)
    assert "24 passed, 1 skipped" in tests
    assert "24 passed, 1 skipped" in own
    page = (ROOT / "docs/plugin-authors.md").read_text(encoding="utf-8")
    message = re.search(r"^```\n(karaoke/none on cpu: progress.*?)\n```", page, re.MULTILINE | re.DOTALL)
    assert message is not None
    assert message.group(1) in broken, "the page shows what is said"
    assert "That was caught." in broken
    assert "22 passed, 1 skipped" in private
    assert re.search(r"karaoke/none on cpu: cancelled in: [\d.]+ s", private)
    assert "(Instrumental).flac" in song
    assert "ironclad_engine_karaoke-0.1.0-py3-none-any.whl" in wheel
    assert "13 passed" in notifier
    assert re.search(r"^lamp +loaded", notifier, re.MULTILINE)
    with HttpSink() as sink:
        channel = "IRONCLAD_NOTIFY__CHANNELS__HALL"
        settings = {f"{channel}__TYPE": "lamp", f"{channel}__URL": sink.url, f"{channel}__SECRET": "hush"}
        answer = typed("ironclad notify test hall", fresh / ".state", {**environment, **settings})
        assert "hall took it" in answer
        assert "HTTP 200 OK" in answer
        (received,) = sink.received
    assert received.headers["Authorization"] == "Bearer hush"
    assert set(received.json) == {"title", "text", "severity", "firing"}


def test_the_guide_is_read() -> None:
    assert len(blocks()) == 8
    assert "ironclad plugins new engine karaoke" in blocks()[0]
    assert "ironclad plugins new notifier lamp" in blocks()[-1]
