"""A process that /proc does not show is not dead."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from ironclad import processes

LOOK = """
import os, sys
from ironclad import processes
me = sys.argv[1]
processes.gone(processes.me()), b"".decode("ascii")  # what Python still has to load is out of reach afterwards
os.setgid(65534); os.setuid(65534)
assert processes.identity(int(me.split("/")[1])) is None, "it is not hidden"
print(processes.gone(me), processes.gone(me.rsplit("/", 3)[0] + "/4194303/" + "/".join(me.split("/")[2:])))
"""


def test_one_that_hidepid_hides_is_not_gone() -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root to mount /proc")
    script = 'mount -t proc -o hidepid=2 proc /proc && exec "$0" -c "$1" "$2"'
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script, sys.executable, LOOK, processes.me()],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    if "mount" in done.stderr:
        pytest.skip(f"no mount here: {done.stderr.strip()}")
    assert done.stdout.split() == ["False", "True"], done.stderr
