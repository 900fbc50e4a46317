"""A process at its limit of open files: the database is away for it, and back when there are descriptors again."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ironclad.db.session import Database

SCRIPT = """
import gc, json, os, resource, sys, threading

import psycopg
import sqlalchemy as sa
from ironclad.db import wire
from ironclad.db.session import Database
from ironclad.errors import DatabaseUnavailable
from ironclad.jobs.feed import Feed

database = Database(sys.argv[1])
stopping = threading.Event()


def session():
    with database.session() as one:
        one.execute(sa.text("SELECT 1"))
    database.engine.dispose()


def attempt(call):
    try:
        call()
    except (psycopg.OperationalError, DatabaseUnavailable) as exc:
        causes, cause = [], exc
        while cause is not None:
            causes.append(type(cause).__name__)
            cause = cause.__cause__
        return causes
    finally:
        gc.collect()  # what failed lets go of its descriptor
    return ["worked"]


session()  # everything that is opened once
resource.setrlimit(resource.RLIMIT_NOFILE, (128, 128))
held = []
try:
    while True:
        held.append(os.open("/dev/null", os.O_RDONLY))
except OSError:
    pass
found = {"session": [], "wire": []}
feed = Feed(database.dsn).listen(stopping, tick_seconds=0.2)
heard = []
while len(held) and not (found["wire"] and found["wire"][-1] == ["worked"] and found["session"][-1] == ["worked"]):
    found["session"].append(attempt(session))
    found["wire"].append(attempt(lambda: wire.connect(database.dsn).close()))
    if len(found["wire"]) in (1, 2):
        heard.append(next(feed))
    os.close(held.pop())
for one in held:
    os.close(one)
heard += [next(feed) for _ in range(2)]
stopping.set()
print(json.dumps(found | {"heard": [notice and notice.channel for notice in heard]}))
"""


def test_no_room_for_a_descriptor_is_a_database_that_is_away(database: Database) -> None:
    url = database.url.render_as_string(hide_password=False)
    done = subprocess.run([sys.executable, "-c", SCRIPT, url], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    for way in ("session", "wire"):
        assert found[way][-1] == ["worked"], way
        assert any("OSError" in causes for causes in found[way]), way  # what the driver lets through
    assert {causes[0] for causes in found["session"][:-1]} <= {"DatabaseUnavailable", "worked"}
    assert {causes[0] for causes in found["wire"][:-1]} <= {"OperationalError", "worked"}
    # Who listens goes on when there is room again.
    assert found["heard"][:2] == [None, None]
    assert "connected" in found["heard"][2:]
