"""A process's children, as the kernel lists them."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

from ironclad import processes


def test_children_of_every_thread_are_listed_and_go() -> None:
    found: list[subprocess.Popen[bytes]] = []
    ended = threading.Event()
    begun = threading.Event()

    def start() -> None:
        found.append(subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE))
        begun.set()
        assert ended.wait(60)

    thread = threading.Thread(target=start)
    thread.start()
    assert begun.wait(60)
    try:
        assert found[0].pid in processes.children_of(os.getpid())
    finally:
        found[0].communicate(b"\n")
        ended.set()
        thread.join()
    assert found[0].pid not in processes.children_of(os.getpid())


def test_a_process_that_is_gone_has_none() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        gone.wait()
    assert processes.children_of(gone.pid) == []
