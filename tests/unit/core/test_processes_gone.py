from __future__ import annotations

import os
import subprocess
import sys

from ironclad import processes


def described_by(code: str = "") -> tuple[str, subprocess.Popen[str]]:
    child = subprocess.Popen(
        [sys.executable, "-c", f"from ironclad import processes as p; print(p.me(), flush=True); {code or 'input()'}"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert child.stdout is not None
    return child.stdout.readline().strip(), child


def end(child: subprocess.Popen[str]) -> None:
    child.communicate("\n", timeout=60)


def test_a_live_process_is_not_gone_and_a_dead_one_is() -> None:
    process, child = described_by()
    assert not processes.gone(process)
    end(child)
    assert processes.gone(process)


def test_a_killed_process_is_gone_before_anybody_reaps_it() -> None:
    process, child = described_by()
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # dead, and still there for its parent to read
    assert processes.gone(process)
    child.communicate()


def test_this_process_is_there() -> None:
    assert not processes.gone(processes.me())


def test_a_later_process_with_the_same_id_is_another_one() -> None:
    namespace, pid, boot, _started = processes.me().split("/")
    assert processes.gone(f"{namespace}/{pid}/{boot}/1")


def test_what_cannot_be_seen_from_here_is_never_called_gone() -> None:
    namespace, pid, boot, started = processes.me().split("/")
    assert not processes.gone(f"1/{pid}/{boot}/1")  # another container
    assert not processes.gone(f"{namespace}/{pid}/another-boot/{started}")  # another machine
    assert not processes.gone("nonsense")
    assert not processes.gone("")
