"""The fork server's loop, in this process."""

from __future__ import annotations

import os
import socket
import threading

import pytest

from ironclad.sandbox.zygote import Zygote


def test_it_ends_without_an_order() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        Zygote(theirs, os.getpid(), idle_seconds=0.01).serve()


def test_it_ends_when_nobody_can_order_any_more() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.close()
    with theirs:
        Zygote(theirs, os.getpid(), idle_seconds=3600).serve()


@pytest.mark.parametrize("count", [0, 1, 3])
def test_an_order_without_all_its_descriptors_is_not_begun_and_keeps_none_open(count: int) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    pipes = [os.pipe() for _ in range(count)]
    with ours, theirs:
        socket.send_fds(ours, [b"json"], [write for _, write in pipes])
        for _, write in pipes:
            os.close(write)
        ours.close()
        Zygote(theirs, os.getpid(), idle_seconds=3600).serve()
    for read, _ in pipes:
        assert os.read(read, 1) == b""
        os.close(read)


def test_it_does_not_fork_where_an_import_has_started_a_thread() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    done = threading.Event()
    thread = threading.Thread(target=done.wait)
    thread.start()
    channel, end = socket.socketpair()
    null = os.open(os.devnull, os.O_RDWR)
    try:
        with ours, theirs, channel:
            socket.send_fds(ours, [b"json"], [null, null, null, end.fileno()])
            end.close()
            ours.close()
            Zygote(theirs, os.getpid(), idle_seconds=3600).serve()
            assert channel.recv(10) == b""
    finally:
        os.close(null)
        done.set()
        thread.join()
