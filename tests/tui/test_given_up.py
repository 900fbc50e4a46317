"""Notifications that were given up, on a real database: in the cockpit, in `ironclad top`, and what keys do to them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa
from cockpit import Cockpit, cockpit
from command_line import run_command

from ironclad.config import load_with_origins
from ironclad.errors import Paused
from ironclad.jobs import overview
from ironclad.jobs.notices import Severity, Status
from ironclad.notify import store
from ironclad.notify.model import Event
from ironclad.notify.wording import compose
from ironclad_tui.live import LiveSource

if TYPE_CHECKING:
    from uuid import UUID

    from ironclad.db.session import Database

HOSTILE = "\x1b[31m[bold]Bobby\u202e"


def given_up(database: Database, name: str) -> UUID:
    """A message to channel `ops` that the service refused."""
    now = datetime.now(UTC)
    event = Event(1, now, "job_failed", "job:1", Status.FIRING, Severity.ERROR, {}, {"name": name})
    with database.session() as session:
        number = store.enqueue(session, ("ops", "g"), compose([event]), [event], now)
        session.execute(
            sa.text("UPDATE message SET state = 'dead', answer = 'HTTP 401', attempt = 12, settled_at = :now "
                    "WHERE message_uuid = :id"),
            {"id": number, "now": now},
        )  # fmt: skip
    return number


def states(database: Database) -> list[tuple[str, int]]:
    with database.session() as session:
        rows = session.execute(sa.text("SELECT state, attempt FROM message ORDER BY message_uuid"))
        return [(row.state, row.attempt) for row in rows]


@pytest.fixture
def source(database: Database, environment: dict[str, str]) -> LiveSource:
    return LiveSource(load_with_origins({}, environment), database, "tui:test")


def test_it_is_the_news_until_somebody_did_something(database: Database, source: LiveSource) -> None:
    given_up(database, HOSTILE)
    given_up(database, "another")

    async def visit(driver: Cockpit) -> None:
        assert "2 notifications could not be delivered.  [5] shows it" in driver.frame()
        await driver.press("5")
        assert "[ERROR] 1 job failed: HTTP 401" in driver.frame()
        assert "\x1b" not in driver.frame()
        await driver.press("r", "y")
        assert states(database) == [("dead", 12), ("pending", 0)]
        assert "1 notification could not be delivered." in driver.frame()
        await driver.press("X", "y")
        assert states(database) == [("dropped", 12), ("pending", 0)]
        assert "could not be delivered" not in driver.frame()

    cockpit(source, visit)


def test_read_only_refuses(database: Database, environment: dict[str, str]) -> None:
    letter = given_up(database, "song")
    source = LiveSource(load_with_origins({}, environment), database, "tui:test", read_only=True)
    assert [one.message_uuid for one in source.letters()] == [letter]
    for action in ("resend", "drop"):
        with pytest.raises(Paused):
            source.settle(action, [letter])
    assert states(database) == [("dead", 12)]


def test_top_and_the_overview_say_so(database: Database, environment: dict[str, str]) -> None:
    with database.session() as session:
        assert overview.glance(session).dead_letters == 0
    assert "given up" not in run_command(environment, "top").stdout
    given_up(database, "song")
    with database.session() as session:
        view = overview.glance(session)
    assert view.dead_letters == 1
    assert overview.worst(view).text == "1 notification could not be delivered."
    assert overview.worst(view).where == "health"
    said = run_command(environment, "top")
    assert "notifications: 1 given up: `ironclad notify dead list`" in said.stdout
    assert '"dead_letters": 1' in run_command(environment, "top", "--json").stdout
