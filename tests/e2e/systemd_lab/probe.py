"""Started under a worker's restrictions: what it sees of other services, and what its decoders are cut off from.

Given: a file with one process a line, as `processes.me` describes it: first one that lives in another service, then one
that is dead. Prints JSON.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from ironclad import processes, sandbox

DESCRIBE = "ironclad.sandbox.selftest:describe"


def main() -> None:
    """Look and print."""
    alive, dead = Path(sys.argv[1]).read_text(encoding="utf-8").split()
    described = sandbox.run(DESCRIBE, {}, sandbox.SandboxLimits())
    seen = {
        "alive_gone": processes.gone(alive),
        "dead_gone": processes.gone(dead),
        "alive_seen": Path(f"/proc/{alive.split('/')[1]}").exists(),
        "interfaces": described["interfaces"],
        "users": Path("/proc/self/uid_map").read_text(encoding="ascii").split(),
        "me": os.geteuid(),
    }
    print(json.dumps(seen), flush=True)  # noqa: T201 -- the unit's output is the result


if __name__ == "__main__":
    main()
