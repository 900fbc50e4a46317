from __future__ import annotations

import selectors
import socket
import threading
import time
from typing import TYPE_CHECKING, Any, Self

import psycopg.conninfo
import pytest
import sqlalchemy as sa

from ironclad.db.session import Database
from ironclad.errors import LeaseLost
from ironclad.jobs import history
from ironclad.stages.keeper import LeaseKeeper
from ironclad.stages.progress import ProgressWriter

if TYPE_CHECKING:
    from collections.abc import Callable

    from ironclad.jobs import lease


class Proxy:
    """Stands between a client and the server; when it falls silent, it is a host that is gone without a word."""

    def __init__(self, database: Database) -> None:
        self._server = psycopg.conninfo.conninfo_to_dict(database.dsn)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._wake, self._woken = socket.socketpair()
        self._sockets: list[socket.socket] = [self._listener, self._wake, self._woken]
        self._thread = threading.Thread(target=self._forward)
        port = self._listener.getsockname()[1]
        self.url = sa.make_url(database.dsn).set(host="127.0.0.1", port=port, query={})

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.fall_silent()
        self.hang_up()

    def fall_silent(self) -> None:
        """Forward nothing any more; every connection stays, and new ones are not answered."""
        if self._thread.is_alive():
            self._wake.send(b".")
            self._thread.join()

    def hang_up(self) -> None:
        """Close everything, so that nobody waits any longer."""
        for one in self._sockets:
            one.close()

    def _upstream(self) -> socket.socket:
        host, port = str(self._server["host"]), self._server.get("port") or 5432
        if not host.startswith("/"):
            return socket.create_connection((host, int(port)))
        found = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        found.connect(f"{host}/.s.PGSQL.{port}")
        return found

    def _forward(self) -> None:
        with selectors.DefaultSelector() as waiting:
            waiting.register(self._listener, selectors.EVENT_READ)
            waiting.register(self._woken, selectors.EVENT_READ)
            while True:
                for key, _ in waiting.select():
                    one: Any = key.fileobj
                    if one is self._woken:
                        return
                    if one is self._listener:
                        near, far = one.accept()[0], self._upstream()
                        self._sockets += [near, far]
                        waiting.register(near, selectors.EVENT_READ, far)
                        waiting.register(far, selectors.EVENT_READ, near)
                    elif data := one.recv(1 << 16):
                        key.data.sendall(data)
                    else:
                        waiting.unregister(one)
                        key.data.shutdown(socket.SHUT_WR)


def nobody(error: LeaseLost) -> None:
    raise AssertionError(error)


def written(database: Database, fraction: float, seconds: float = 60.0) -> None:
    """Wait until the running stage is so far."""
    deadline = time.monotonic() + seconds
    while True:
        with database.session() as session:
            found = session.scalar(sa.text("SELECT progress FROM stage_run"))
        if found == pytest.approx(fraction):
            return
        assert time.monotonic() < deadline, found
        threading.Event().wait(0.02)


def test_the_newest_progress_is_written(database: Database, claims: Callable[..., lease.Claim]) -> None:
    fence = claims().fence
    with database.session() as session:
        history.stage_started(session, fence, "separate")
    with ProgressWriter(database, fence, nobody) as writer:
        writer.say("separate", 0.1, None)
        written(database, 0.1)
        for percent in range(20, 80):
            writer.say("separate", percent / 100, None)
        written(database, 0.79)


def test_nothing_was_said(database: Database, claims: Callable[..., lease.Claim]) -> None:
    with ProgressWriter(database, claims().fence, nobody):
        pass


def test_a_lost_lease_is_told(database: Database, claims: Callable[..., lease.Claim]) -> None:
    fence = claims().fence
    with database.session() as session:
        session.execute(sa.text("UPDATE job SET lease_token = gen_random_uuid()"))
    with (
        LeaseKeeper(database, fence, 600.0) as keeper,  # its own heartbeat is far off
        ProgressWriter(database, fence, keeper.lost) as writer,
    ):
        writer.say("separate", 0.1, None)
        until_lost(keeper, 60.0)


def until_lost(keeper: LeaseKeeper, seconds: float, step: Callable[[], None] = lambda: None) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        step()
        try:
            keeper.check()
        except LeaseLost:
            return
        threading.Event().wait(0.02)
    pytest.fail("the attempt was not told to end")


def test_a_database_that_falls_silent_cannot_keep_an_attempt_from_ending(
    database: Database, claims: Callable[..., lease.Claim]
) -> None:
    """The link is cut: nothing answers, nothing is refused. The attempt stops itself at two thirds of its lease."""
    fence = claims().fence
    with database.session() as session:
        history.stage_started(session, fence, "separate")
    with Proxy(database) as proxy:
        cut = Database(proxy.url.render_as_string(hide_password=False))
        with LeaseKeeper(cut, fence, 12.0) as keeper, ProgressWriter(cut, fence, keeper.lost) as writer:
            writer.say("separate", 0.1, None)
            written(database, 0.1)
            proxy.fall_silent()
            until_lost(keeper, 60.0, lambda: writer.say("separate", 0.2, None))
            proxy.hang_up()
        cut.close()
