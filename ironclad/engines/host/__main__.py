"""Start a host: `python -I -m ironclad.engines.host --entry module:callable --parent PID`."""

from __future__ import annotations

import argparse
import sys

from ironclad.engines.host import process


def main(arguments: list[str] | None = None) -> int:
    """Run the host until it is told to stop; the exit status."""
    parser = argparse.ArgumentParser(prog="ironclad-engine-host", description="Runs one separation engine.")
    parser.add_argument("--entry", required=True, help="module:callable that makes the separator")
    parser.add_argument("--parent", type=int, required=True, help="process id to die with")
    parser.add_argument("--memory-bytes", type=int, default=0, help="limit of private memory; 0 for none")
    parser.add_argument("--path", action="append", default=[], help="folder to import the engine from (repeatable)")
    options = parser.parse_args(arguments)
    process.die_with_parent(options.parent)
    requests, events = process.claim_pipes()
    process.volunteer_for_oom()
    process.limit_memory(options.memory_bytes)
    sys.path[:0] = options.path
    # NumPy starts its thread pools when it is imported: after the limits, so that they hold for it too.
    from ironclad.engines.host.server import Channel, Server  # noqa: PLC0415

    return Server(Channel(requests, events), options.entry).run()


if __name__ == "__main__":
    sys.exit(main())
