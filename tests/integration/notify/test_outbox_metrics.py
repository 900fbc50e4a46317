"""What Prometheus is told of the outbox."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from ironclad.config import load
from ironclad.ops.health import HealthBoard
from ironclad.ops.metrics import Metrics
from ironclad.ops.services import notify_service
from ironclad.ops.services.notify_service import Report

if TYPE_CHECKING:
    from collections.abc import Callable

    from ironclad.db.session import Database

CHANNEL = {"IRONCLAD_NOTIFY__CHANNELS__OPS__URL": "json://127.0.0.1:9/"}
AGE = "ironclad_notify_outbox_oldest_age_seconds"
ROWS = "ironclad_notify_outbox_rows"


@pytest.mark.parametrize(("channel", "overdue"), [(CHANNEL, True), ({}, False)])
def test_what_waits_is_overdue_only_where_there_is_a_channel(
    *,
    desk: Callable[..., Any],
    database: Database,
    environment: dict[str, str],
    channel: dict[str, str],
    overdue: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(notify_service, "_TIMEOUT", "60s")  # after two seconds the figures would stay as they were
    here = desk()
    here.publish()
    here.rows("UPDATE notice SET at = ironclad_now() - interval '30 minutes'")
    metrics = Metrics("notify", process=False)
    Report(load(environ={**environment, **channel}), HealthBoard(), metrics, database)
    metrics.render()
    age = metrics.registry.get_sample_value(AGE)
    assert age is not None
    assert age >= 1800 if overdue else age == 0
    assert metrics.registry.get_sample_value(ROWS, {"state": "unrouted"}) == 1
