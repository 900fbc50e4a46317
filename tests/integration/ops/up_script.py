"""`ironclad up` with small services, in a process that a test can kill: prints each event as a JSON line."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from ironclad.config import load
from ironclad.errors import IroncladError
from ironclad.ops.plan import Unit
from ironclad.ops.supervisor import ServiceEvent, Supervisor

RUNTIME = str(Path(__file__).with_name("runtime_script.py"))
TINY = str(Path(__file__).with_name("tiny_service.py"))


def say(**data: object) -> None:
    sys.stdout.write(json.dumps(data) + "\n")
    sys.stdout.flush()


def show(event: ServiceEvent) -> None:
    say(name=event.name, state=event.state, pid=event.pid, detail=event.detail)


def main(modes: list[str]) -> int:
    units = tuple(
        Unit("notify", (sys.executable, RUNTIME, "chatty"))
        if mode == "runtime"
        else Unit(f"u{n}", (sys.executable, TINY, mode), watchdog_seconds=0.0)  # they give no signs of life
        for n, mode in enumerate(modes)
    )
    try:
        Supervisor(load(), show, units=units).run()
    except IroncladError as exc:
        say(error=exc.to_dict())
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
