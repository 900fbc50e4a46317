"""The warm worker against Prefect's stock `process` worker: what it costs to run a flow, apart from the work in it.

    python benchmarks/orchestration.py [--rounds 7] [--query-seconds 1] [--database postgresql|sqlite] [--json]

Both workers ask for runs equally often and run the same flow of five trivial tasks in turn, one run at a time, on one
server with a throw-away home. In every other run the warm worker is woken besides, as the dispatcher wakes those of its
host; that is the ratio held against the target. The other, of a worker on another host, which has to ask, says
as much about where in the interval a run falls: half a second on either side of it is the same for both workers.
Latency is from a run's creation to its end by Prefect's own clock; CPU seconds are those of the worker and of all that
it started. A run that does not complete with its five task runs stops the benchmark.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from typing import TYPE_CHECKING

import trivial_flow
from orchestration_bench import Bench, Cost, tree_cpu, tree_memory

if TYPE_CHECKING:
    from collections.abc import Sequence

SECONDS = 290.0
LATENCY_TARGET = 0.30
CPU_TARGET = 0.20


def summary(costs: Sequence[Cost]) -> dict[str, float]:
    """Median and range of latency, mean CPU seconds (polling while waiting included)."""
    latencies = [cost.latency for cost in costs]
    return {
        "latency_median_s": round(statistics.median(latencies), 3),
        "latency_min_s": round(min(latencies), 3),
        "latency_max_s": round(max(latencies), 3),
        "worker_cpu_s": round(statistics.fmean(cost.cpu for cost in costs), 3),
        "runs": len(costs),
    }


def measure(rounds: int, query_seconds: float, port: int, database: str) -> dict[str, object]:
    """Run it all; returns what is printed."""
    with Bench(query_seconds=query_seconds, seconds=SECONDS, port=port, database=database) as bench:
        warm, stock = bench.worker("ironclad"), bench.worker("process")
        for worker in (warm, stock):
            worker.run(tasks=trivial_flow.TASKS)  # fills caches; not counted
        costs: dict[str, list[Cost]] = {"warm": [], "stock": [], "woken": []}
        server_before = tree_cpu(bench.server_pid)
        for _ in range(rounds):
            costs["warm"].append(warm.run(tasks=trivial_flow.TASKS))
            costs["stock"].append(stock.run(tasks=trivial_flow.TASKS))
            costs["woken"].append(warm.run(tasks=trivial_flow.TASKS, woken=True))
        server_cpu = tree_cpu(bench.server_pid) - server_before
        memory = {"warm": tree_memory(warm.process.pid), "stock": tree_memory(stock.process.pid)}
    result: dict[str, object] = {name: summary(of) for name, of in costs.items()}
    asking, woken, stock_summary = (summary(costs[name]) for name in ("warm", "woken", "stock"))

    def ratio(of: dict[str, float], what: str) -> float:
        return round(of[what] / stock_summary[what], 3)

    return {
        **result,
        "query_seconds": query_seconds,
        "database": database,
        "server_cpu_s_per_run": round(server_cpu / (3 * rounds), 3),
        "idle_worker_pss_mb": {name: round(of) for name, of in memory.items()},
        "latency_ratio": ratio(woken, "latency_median_s"),
        "latency_ratio_asking": ratio(asking, "latency_median_s"),
        "cpu_ratio": max(ratio(asking, "worker_cpu_s"), ratio(woken, "worker_cpu_s")),
    }


def main() -> int:
    """Measure and print; exit code 1 if a ratio is above its target."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--query-seconds", type=float, default=1.0)
    parser.add_argument("--port", type=int, default=0, help="the server's; an occupied one is refused")
    parser.add_argument("--database", choices=("postgresql", "sqlite"), default="postgresql")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    result = measure(options.rounds, options.query_seconds, options.port, options.database)
    if options.json:
        print(json.dumps(result))
    else:
        for name, what in (
            ("woken", "warm worker, woken"),
            ("warm", "warm worker, asking"),
            ("stock", "stock process worker"),
        ):
            row = result[name]
            assert isinstance(row, dict)
            spread = f"({row['latency_min_s']:.2f}-{row['latency_max_s']:.2f})"
            print(
                f"{what:22} create to Completed {row['latency_median_s']:6.2f} s {spread}, "
                f"worker CPU {row['worker_cpu_s']:5.2f} s/run, n = {row['runs']}"
            )
        print(f"server CPU {result['server_cpu_s_per_run']} s/run")
        print(f"idle worker memory (PSS): {result['idle_worker_pss_mb']} MB")
        print(f"latency warm / stock = {result['latency_ratio']} woken (target {LATENCY_TARGET})")
        print(f"                       {result['latency_ratio_asking']} asking every {options.query_seconds:g} s")
        print(f"CPU     warm / stock = {result['cpu_ratio']} (target {CPU_TARGET})")
    met = float(str(result["latency_ratio"])) <= LATENCY_TARGET and float(str(result["cpu_ratio"])) <= CPU_TARGET
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
