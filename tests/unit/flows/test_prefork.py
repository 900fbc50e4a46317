"""The fork server that is forked from its worker: it shares memory, can be told apart, and ends with its worker."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pathlib import Path

# Stand-ins for Prefect, which takes seconds to import; the real one is in the tests of the warm worker.
SCRIPT = """
import json, os, subprocess, sys, threading
from ironclad.config import load
from ironclad_flows import preload, prefork

preload.PREFECT_MODULES = ()
prefork.SHARED_MODULES = ({shared})
told = {{}}
{before}
forked = prefork.fork_server(load(), "worker-cpu", ({modules}))
{after}
print(json.dumps(told))
"""


def run(folder: Path, *, shared: str = "'heavy',", modules: str = "", before: str = "", after: str) -> dict[str, Any]:
    """What a process of its own tells: in this one there are threads."""
    (folder / "heavy.py").write_text("DATA = [str(number) for number in range(400_000)]\n", encoding="ascii")
    script = SCRIPT.format(shared=shared, modules=modules, before=before, after=after)
    (folder / "a_worker_with_a_long_name.py").write_text(script, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(folder / "a_worker_with_a_long_name.py"), "--pool", "cpu"], capture_output=True, text=True,
        timeout=120, check=False, env={**os.environ, "IRONCLAD_DATA_DIR": str(folder), "PYTHONPATH": str(folder)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def test_it_preloads_shares_what_is_imported_and_ends_with_its_worker(tmp_path: Path) -> None:
    told = run(
        tmp_path,
        modules="'json',",
        after="""
told["line"] = json.loads(forked.connection.makefile().readline())
import psutil
server = psutil.Process(forked.pid)
told["cmdline"] = [word for word in server.cmdline() if word]
told["parent"] = server.ppid() == os.getpid()
memory = server.memory_full_info()
told["own"], told["rss"] = memory.uss, memory.rss
try:
    forked.wait(0.01)
except subprocess.TimeoutExpired:
    told["runs"] = True
forked.connection.close()
told["code"] = forked.wait(60)
told["again"] = forked.wait(60)
forked.kill()
""",
    )
    assert told["line"]["event"] == "ready"
    assert told["cmdline"] == ["python", "-m", "ironclad_flows.forkserver"]
    assert (told["parent"], told["runs"], told["code"], told["again"]) == (True, True, 0, 0)
    assert told["own"] < told["rss"] / 2


def test_a_module_that_does_not_load_is_told_to_the_worker(tmp_path: Path) -> None:
    told = run(
        tmp_path,
        modules="'nothing_of_this_name',",
        after="""
told["line"] = json.loads(forked.connection.makefile().readline())
told["code"] = forked.wait(60)
""",
    )
    assert told["line"]["event"] == "failed"
    assert "nothing_of_this_name" in told["line"]["error"]
    assert told["code"] == 1


@pytest.mark.parametrize(
    ("shared", "before"),
    [
        ("'nothing_of_this_name',", ""),
        ("'heavy',", "threading.Thread(target=threading.Event().wait, daemon=True).start()"),
    ],
)
def test_what_cannot_be_forked_safely_is_left_to_the_worker(tmp_path: Path, shared: str, before: str) -> None:
    told = run(tmp_path, shared=shared, before=before, after='told["forked"] = forked is not None')
    assert told == {"forked": False}
