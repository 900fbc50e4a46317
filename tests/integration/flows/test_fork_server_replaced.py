"""A fork server that was forked from its worker and died before it was needed is replaced by a process of its own."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys

from ironclad_flows.prefork import Forked
from ironclad_flows.starter import ForkServer


async def started(forked: Forked) -> int | None:
    server = ForkServer((), forked=forked)
    try:
        await server.start()
        return server.pid
    finally:
        await server.close()


def test_a_forked_server_that_is_gone_is_replaced() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        gone.wait()
    ours, theirs = socket.socketpair()
    theirs.close()
    assert asyncio.run(started(Forked(gone.pid, ours))) not in {None, gone.pid}
