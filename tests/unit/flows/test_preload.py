from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def load(folder: Path, *modules: str) -> subprocess.CompletedProcess[str]:
    script = f"""
import os
os.environ["OMP_NUM_THREADS"] = "7"
from ironclad_flows import preload
count = preload.load({modules!r})
import gc
assert count == gc.get_freeze_count() > 1000
print(os.environ["OMP_NUM_THREADS"], os.environ.get("OPENBLAS_NUM_THREADS"))
"""
    return subprocess.run(
        [sys.executable, "-c", script], cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )


def test_numpy_is_preloaded_with_one_thread_and_programs_get_their_cores_back(tmp_path: Path) -> None:
    done = load(tmp_path, "numpy")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["7", "None"]


def test_a_module_that_starts_a_thread_is_named_by_it(tmp_path: Path) -> None:
    (tmp_path / "threaded.py").write_text(
        "import threading, time\nthreading.Thread(target=time.sleep, args=(30,), name='busy', daemon=True).start()\n",
        encoding="ascii",
    )
    done = load(tmp_path, "threaded")
    assert done.returncode != 0
    assert "A preloaded module started threads (busy)" in done.stderr


def test_a_thread_that_python_does_not_know_is_seen_too(tmp_path: Path) -> None:
    (tmp_path / "native.py").write_text(
        "import _thread, time\n_thread.start_new_thread(time.sleep, (30,))\ntime.sleep(0.1)\n", encoding="ascii"
    )
    done = load(tmp_path, "native")
    assert done.returncode != 0
    assert "not Python ones" in done.stderr


def test_a_module_that_does_not_load_is_an_error(tmp_path: Path) -> None:
    done = load(tmp_path, "no_such_module")
    assert "ModuleNotFoundError: No module named 'no_such_module'" in done.stderr
