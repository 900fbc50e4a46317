"""How long `ironclad --help` and `ironclad --version` take, beside an interpreter that does nothing, in turn."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

RUNS = 15
COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "ironclad --help": [sys.executable, "-m", "ironclad.cli.main", "--help"],
    "ironclad --version": [sys.executable, "-m", "ironclad.cli.main", "--version"],
    "ironclad jobs --help": [sys.executable, "-m", "ironclad.cli.main", "jobs", "--help"],
}


def main() -> None:
    """Print medians in milliseconds and the ratio to the bare interpreter."""
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(RUNS):
        for name, command in COMMANDS.items():
            begun = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            times[name].append((time.perf_counter() - begun) * 1000)
    bare = statistics.median(times["python -c pass"])
    for name, taken in times.items():
        median = statistics.median(taken)
        print(f"{name:<22} median {median:6.0f} ms  worst {max(taken):6.0f} ms  {median / bare:5.1f} x bare")


if __name__ == "__main__":
    main()
