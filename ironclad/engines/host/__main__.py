"""Start a host: `python -I -m ironclad.engines.host --entry module:callable --parent PID`."""

from __future__ import annotations

import argparse
import importlib
import json
import platform
import sys
from importlib import metadata
from pathlib import Path

from ironclad.engines.host import process


def main(arguments: list[str] | None = None) -> int:
    """Run the host until it is told to stop; the exit status."""
    parser = argparse.ArgumentParser(prog="ironclad-engine-host", description="Runs one separation engine.")
    parser.add_argument("--entry", required=True, help="module:callable that makes the separator")
    parser.add_argument("--parent", type=int, default=0, help="process id to die with")
    parser.add_argument("--memory-bytes", type=int, default=0, help="limit of private memory; 0 for none")
    parser.add_argument("--path", action="append", default=[], help="folder to import the engine from (repeatable)")
    parser.add_argument("--probe", action="store_true", help="import the engine, print what is here as JSON, exit")
    parser.add_argument(
        "--convert", nargs=3, metavar=("MODEL", "FROM", "TO"), help="let the entry convert a model's files, exit"
    )
    options = parser.parse_args(arguments)
    if options.probe or options.convert:
        sys.path[:0] = options.path
        return probe(options.entry) if options.probe else convert(options.entry, *options.convert)
    if not options.parent:
        parser.error("--parent is missing")
    process.die_with_parent(options.parent)
    requests, events = process.claim_pipes()
    process.volunteer_for_oom()
    process.limit_memory(options.memory_bytes)
    sys.path[:0] = options.path
    # NumPy starts its thread pools when it is imported: after the limits, so that they hold for it too.
    from ironclad.engines.host.server import Channel, Server  # noqa: PLC0415

    return Server(Channel(requests, events), options.entry).run()


def probe(entry: str) -> int:
    """Import the engine and say what is there, one line of JSON on the real standard output; the exit status.

    `devices` is what the separator's own `devices()` says, where it has one: the kinds it can use on this machine.
    """
    _requests, events = process.claim_pipes()
    module_name, _, attribute = entry.partition(":")
    separator = getattr(importlib.import_module(module_name), attribute)()
    devices = separator.devices() if hasattr(separator, "devices") else ["cpu"]
    packages = {dist.metadata["Name"]: dist.version for dist in metadata.distributions()}
    report = {"python": platform.python_version(), "devices": list(devices), "packages": packages}
    with open(events, "w", encoding="utf-8") as stream:  # noqa: PTH123  # a descriptor, not a path
        stream.write(json.dumps(report) + "\n")
    return 0


def convert(entry: str, model: str, source: str, target: str) -> int:
    """Let an engine's converter write a model's other forms; the exit status. What it refuses is its last line."""
    from ironclad.engines.host.api import EngineError  # noqa: PLC0415  # likewise

    process.claim_pipes()
    module_name, _, attribute = entry.partition(":")
    try:
        getattr(importlib.import_module(module_name), attribute)(model, Path(source), Path(target))
    except EngineError as exc:
        print(exc, file=sys.stderr)  # noqa: T201  # read by who started this process
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
