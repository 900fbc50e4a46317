"""A fork server that was forked from its worker and died before it was needed is replaced by a process of its own."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys

import pytest

from ironclad.errors import WorkerLost
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


async def refused(forked: Forked, theirs: socket.socket) -> None:
    server = ForkServer((), forked=forked)
    with theirs.makefile("rwb") as line:
        line.write(b'{"event": "ready", "objects": 1}\n')
        line.flush()
        try:
            asked = asyncio.create_task(server.fork({"A": "b"}))
            request: dict[str, str] = {}
            while "id" not in request:
                request = json.loads(await asyncio.to_thread(line.readline))
            answer = {"event": "refused", "id": request["id"], "error": "too many"}
            line.write(json.dumps(answer).encode() + b"\n")
            line.flush()
            await asked
        finally:
            theirs.shutdown(socket.SHUT_RDWR)
            forked.kill()
            await server.close()


def test_a_refused_process_fails_its_run_alone() -> None:
    ours, theirs = socket.socketpair()
    with (
        theirs, subprocess.Popen(["sleep", "600"]) as stands_for_it,
        pytest.raises(WorkerLost, match="No process could be started: too many"),
    ):  # fmt: skip
        asyncio.run(refused(Forked(stands_for_it.pid, ours), theirs))
