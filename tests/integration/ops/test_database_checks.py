"""What `ironclad doctor` and `health` read from the database: pools without workers, what waits to be told."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa

from ironclad.config import load
from ironclad.ops import directory
from ironclad.ops.checks import notify, services
from ironclad.ops.checks.outcome import Level, Outcome

if TYPE_CHECKING:
    from ironclad.config import Settings
    from ironclad.db.session import Database


def sql(database: Database, *statements: str) -> None:
    with database.session() as session:
        for statement in statements:
            session.execute(sa.text(statement))


def found(outcomes: list[Outcome]) -> dict[str, Level]:
    assert all(one.remedy for one in outcomes if one.level is not Level.OK)
    return {one.about: one.level for one in outcomes}


def test_pools_need_workers_that_report(settings: Settings, database: Database) -> None:
    assert found(services.workers(settings)) == {"": Level.OK}  # none is declared yet
    sql(
        database,
        "INSERT INTO pool (name, slots, paused) VALUES ('cpu', 2, false), ('gpu', 1, true), ('big', 1, false)",
        "INSERT INTO worker (name, kind, host, pid, pool) VALUES ('worker-cpu@box/1', 'worker', 'box', 1, 'cpu')",
    )  # fmt: skip
    assert found(services.workers(settings)) == {"cpu": Level.OK, "gpu": Level.WARN, "big": Level.WARN}
    sql(database, "UPDATE worker SET seen_at = seen_at - interval '1 hour'")
    outcomes = services.workers(settings)
    assert found(outcomes)["cpu"] is Level.WARN
    assert "ironclad run worker --pool cpu" in next(one.remedy for one in outcomes if one.about == "cpu")


def test_what_waits_to_be_told_and_what_was_given_up(
    settings: Settings, database: Database, environment: dict[str, str]
) -> None:
    told = load(environ={**environment, "IRONCLAD_NOTIFY__CHANNELS__OPS__URL": "json://127.0.0.1:9/"})
    assert found(notify.channels(told)) == {"ops": Level.OK, "outbox": Level.WARN}  # no notifier runs here
    sql(database, "INSERT INTO notice (kind, alert, status, severity, at) "
                  "VALUES ('drift', 'd', 'firing', 'warning', now() - interval '1 hour')")  # fmt: skip
    assert found(notify.channels(told))["outbox"] is Level.FAIL
    sql(
        database, "UPDATE notice SET routed_at = now()",
        "INSERT INTO message (message_uuid, channel, group_key, state, severity, title, events, oldest_at, made_at, "
        "not_before) VALUES (gen_random_uuid(), 'ops', 'g', 'dead', 'error', 't', 1, now(), now(), now())",
    )  # fmt: skip
    run = settings.layout.run
    run.mkdir(parents=True, exist_ok=True)
    announced = directory.announce(run, "notify", "127.0.0.1", 1)
    try:
        outcomes = notify.channels(told)
    finally:
        directory.withdraw(run, announced)
    assert found(outcomes) == {"ops": Level.OK, "outbox": Level.OK, "dead letters": Level.WARN}
    assert "dead resend" in next(one.remedy for one in outcomes if one.about == "dead letters")
