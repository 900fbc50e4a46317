"""10,000 events through sinks that fail 30 % of calls, with five kills; and a storm of 1,000 failures in a minute."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa
from notify_lab import EACH_ALONE, NotifyLab, bombard

from ironclad.jobs.notices import Status

if TYPE_CHECKING:
    from ironclad.config import Settings
    from ironclad.db.session import Database

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(10_000)]


def test_ten_thousand_events_five_kills(database: Database, environment: dict[str, str], settings: Settings) -> None:
    assert settings.layout.run.is_dir()
    with NotifyLab(database, environment, rate=0.3, notify=EACH_ALONE) as lab:
        count = bombard(lab, 10_000, 5, seconds=9000)
    print(count)  # noqa: T201 - the figures are the point
    assert count.lost == 0
    assert count.kills == 5
    assert count.ours <= 0.005 * count.events


def test_a_storm_is_three_messages_and_its_end_is_told(
    database: Database, environment: dict[str, str], settings: Settings
) -> None:
    """With the default waits: 30 s for a new group, 5 min between two messages of it."""
    assert settings.layout.run.is_dir()
    only_hook = {"ROUTES": json.dumps([{"channels": ["hook"]}])}
    with NotifyLab(database, environment, rate=0.3, notify=only_hook) as lab:
        lab.start()
        began = time.monotonic()
        for second in range(60):
            lab.publish(second * 17, 17)
            time.sleep(max(0.0, began + second + 1 - time.monotonic()))  # the storm's own pace is what is tested
        lab.until_settled(1800)
        storm = _sent(database)
        assert storm[1] == 60 * 17
        assert storm[0] <= 3
        lab.publish(0, 1020, status=Status.RESOLVED)
        lab.until_settled(1800)
        print(f"storm: {storm[0]} messages for {storm[1]} failures; all: {_sent(database)}")  # noqa: T201 - likewise
        assert any(call.json["title"].startswith("[RESOLVED] 1,020") for call in lab.sinks["hook"].received)


def _sent(database: Database) -> tuple[int, int]:
    with database.session() as session:
        row = session.execute(sa.text("SELECT count(*), sum(events) FROM message WHERE state = 'sent'")).one()
    return int(row[0]), int(row[1] or 0)
