"""The benchmark of the ingest, small: a real watcher process, files dropped in five unkind ways."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parents[3] / "benchmarks" / "ingest.py"


# And the quiet time of each, in seconds: a file that is only touched is taken once it was not touched for so long,
# which in the storm must be longer than the machine stands still between two touches.
WAYS = {"slow": 0.8, "rename": 0.8, "restart": 0.8, "polling": 0.8, "touch": 8.0}


@pytest.mark.slow
def test_nothing_is_taken_early_missed_or_taken_twice(server_url: str, tmp_path: Path) -> None:
    if not BENCHMARK.exists():
        pytest.skip("the benchmarks are not in this distribution")
    running = {}
    for way, stability in WAYS.items():  # side by side: they mostly wait
        command = [
            sys.executable, str(BENCHMARK), "--files", "25", "--stability", str(stability), "--idle", "0",
            "--ways", way, "--database-url", server_url, "--folder", str(tmp_path), "--json",
        ]  # fmt: skip
        running[way] = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    for way, process in running.items():
        output, errors = process.communicate(timeout=250)
        (result,) = json.loads(output) if output else pytest.fail(f"{way}: {errors}")
        assert result["files"] == 25
        assert (result["early"], result["missed"], result["twice"], result["lost"]) == (0, 0, 0, 0), result
