"""The crash laboratory's fixtures."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa
from chaoslab.lab import Laboratory, available
from chaoslab.ledger import Ledger
from chaoslab.protocols import REAL_SONG
from chaoslab.world import World

from ironclad.db import schema
from ironclad.db.session import Database

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture(scope="session")
def ledger(request: pytest.FixtureRequest) -> Iterator[Ledger]:
    """Collects results; keeps them in the folder IRONCLAD_TEST_LEDGERS, if that is set; prints them at the end."""
    folder = os.environ.get("IRONCLAD_TEST_LEDGERS")
    ledger = Ledger(Path(folder) if folder else None)
    yield ledger
    if ledger.tallies:
        capture = request.config.pluginmanager.getplugin("capturemanager")
        with capture.global_and_fixture_disabled():
            print(f"\n{ledger.text()}")  # noqa: T201 - figures to report


@pytest.fixture
def lab(laboratory: Laboratory) -> Laboratory:
    """A laboratory in memory, in which nothing is left of a test that was cut off."""
    laboratory.ready()
    return laboratory


@pytest.fixture(scope="session")
def laboratory(
    server_url: str, tmp_path_factory: pytest.TempPathFactory, make_song: Callable[..., Path]
) -> Iterator[Laboratory]:
    """A laboratory in memory, with a folder on another file system where there is one."""
    reason = available()
    if reason:
        pytest.skip(reason)
    scratch = tmp_path_factory.mktemp("lab")
    make_song(scratch / REAL_SONG, 1.5)
    admin = sa.create_engine(Database(server_url).url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    name = f"lab_{os.getpid()}"
    with admin.connect() as connection:
        connection.execute(sa.text(f"CREATE DATABASE {name}"))
    url = sa.make_url(server_url).set(database=name).render_as_string(hide_password=False)
    database = Database(url)
    schema.upgrade(database)
    database.close()
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        found = Laboratory(World(Path(folder) / "data", scratch / "outside", url), scratch)
        yield found
        found.close()
    with admin.connect() as connection:
        connection.execute(sa.text(f"DROP DATABASE {name} WITH (FORCE)"))
    admin.dispose()
