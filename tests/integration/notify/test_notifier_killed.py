"""A small version of the proof (the large one is chaos): failing sinks, a killed notifier, and nothing is lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from notify_lab import EACH_ALONE, NotifyLab, bombard

if TYPE_CHECKING:
    from ironclad.config import Settings
    from ironclad.db.session import Database


@pytest.mark.services
@pytest.mark.timeout(900)  # seconds where the machine is free; two services start, with all of Apprise
def test_every_event_arrives_or_is_a_dead_letter(
    database: Database, environment: dict[str, str], settings: Settings
) -> None:
    settings.layout.create()
    with NotifyLab(database, environment, rate=0.3, notify=EACH_ALONE) as lab:
        count = bombard(lab, 60, 1, seconds=400)
        assert (count.lost, count.kills) == (0, 1)
        assert count.ours <= 3  # one message on its way a channel and kill
        assert count.by_sinks > 0
        lab.publish(60, 3)  # delivered by the one that is left: so it has begun, and hears when it is to stop
        lab.until_settled(400)
        assert lab.stop() == 0
