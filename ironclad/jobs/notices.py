"""The outbox: what operators should hear of is written down in the transaction in which it came about.

Whoever changes something calls `publish`; the notifier decides later who is told, how and when. So a change of its
settings, or its absence, loses nothing, and nothing is told that was rolled back.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from ironclad.db import jsonb

if TYPE_CHECKING:
    from collections.abc import Mapping
    from uuid import UUID

    from sqlmodel import Session

CHANNEL: Final = "ironclad_notice"
"""PostgreSQL's notification channel that wakes the notifier."""
SWITCH: Final = "notify"
"""The name of the switch with which the notifier says what is asked for."""


class Severity(enum.StrEnum):
    """How bad it is, mildest first."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"
    CRITICAL = "critical"


class Status(enum.StrEnum):
    """What a notice says about its alert."""

    FIRING = "firing"
    RESOLVED = "resolved"
    NOTE = "note"
    """Something that happened: it does not last, so it is not resolved either."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of notice."""

    severity: Severity
    what: str
    """What happened, in one sentence."""
    todo: str
    """What to do, with the command to type."""
    lasts: bool = True
    """Whether it is a condition, of which people are reminded until it ends."""


KINDS: Final[Mapping[str, Kind]] = {
    "job_failed": Kind(Severity.ERROR, "Jobs failed.", "See `ironclad failures`, then `ironclad retry`.", lasts=False),
    "job_succeeded": Kind(Severity.INFO, "Jobs succeeded.", "", lasts=False),
    "disk_low": Kind(
        Severity.CRITICAL, "The disk is almost full: nothing new starts.", "Free some space; see `ironclad prune`."
    ),
    "service_lost": Kind(
        Severity.CRITICAL, "A service has fallen silent.", "Start it again; see `ironclad doctor` on its host."
    ),
    "service_unhealthy": Kind(Severity.ERROR, "A service does not work as it should.", "See `ironclad doctor`."),
    "dependency_down": Kind(
        Severity.CRITICAL, "Something that Ironclad needs does not work.", "`ironclad health` shows all of it."
    ),
    "drift": Kind(
        Severity.WARNING,
        "Published files are not what was published.",
        "`ironclad verify` names them; `ironclad jobs replay JOB` makes a track anew.",
    ),
    "backup_failed": Kind(Severity.ERROR, "A backup failed.", "See the detail; the last good backup is kept."),
    "channel_failing": Kind(
        Severity.ERROR,
        "Notifications could not be delivered.",
        "See `ironclad notify dead list`; put the channel right.",
    ),
}
"""Every kind that Ironclad itself publishes; others (of plugins) count as conditions."""


@dataclass(frozen=True, slots=True)
class Notice:
    """One thing to tell.

    `labels` are what routes, silences and groups go by (few values each); `data` is for the text: `name`, `detail`,
    `what`, `hint`, `code`, `job_uuid`.
    """

    kind: str
    alert: str
    status: Status = Status.FIRING
    severity: Severity | None = None
    """The kind's own by default."""
    labels: Mapping[str, str] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)


def publish(session: Session, notice: Notice) -> int:
    """Write a notice into the outbox of the caller's transaction. Returns its id."""
    known = KINDS.get(notice.kind)
    severity = notice.severity or (known.severity if known else Severity.WARNING)
    row = session.execute(
        sa.text(
            "INSERT INTO notice (kind, alert, status, severity, labels, data) VALUES (:kind, :alert, :status, "
            ":severity, CAST(:labels AS jsonb), CAST(:data AS jsonb)) RETURNING id"
        ),
        {
            "kind": notice.kind, "alert": jsonb.text(notice.alert), "status": notice.status.value,
            "severity": severity.value, "labels": jsonb.dumps(dict(notice.labels)), "data": jsonb.dumps(notice.data),
        },
    ).one()  # fmt: skip
    _wake(session)
    return int(row.id)


def resolve(session: Session, alert: str, **data: Any) -> bool:
    """Say that an alert is over, if the last that was said of it is that it fires. Returns whether it was."""
    row = session.execute(
        sa.text(
            "INSERT INTO notice (kind, alert, status, severity, labels, data) "
            "SELECT kind, alert, 'resolved', severity, labels, data || CAST(:data AS jsonb) FROM "
            "(SELECT * FROM notice WHERE alert = :alert ORDER BY id DESC LIMIT 1) AS x WHERE x.status = 'firing' "
            "RETURNING id"
        ),
        {"alert": alert, "data": jsonb.dumps(data)},
    ).first()
    if row is not None:
        _wake(session)
    return row is not None


_FAILED = {"failed", "quarantined"}
_OVER = {"succeeded", "cancelled", "skipped"}
_NAME = "coalesce(nullif(concat_ws(' - ', left(artist, 200), left(title, 200)), ''), right(relative_path, 200))"
_LABELS = (
    "jsonb_build_object('user', user_id, 'stage', stage, 'engine', engine, 'pool', pool, 'state', state, "
    "'code', coalesce(error_code, ''), 'error_kind', coalesce(error->>'kind', ''))"
)
_DATA = (
    f"jsonb_build_object('job_uuid', job_uuid, 'name', {_NAME}, 'code', coalesce(error_code, ''), "
    "'what', error->>'what', 'detail', left(error->>'detail', 500), 'hint', error->>'hint')"
)
_INSERT = "INSERT INTO notice (kind, alert, status, severity, labels, data) "
_JOB_FAILED = sa.text(
    f"{_INSERT} SELECT 'job_failed', 'job:' || job_uuid, 'firing', 'error', {_LABELS}, {_DATA} "
    "FROM job WHERE job_uuid = :job"
)
# Well again, if it had ever failed.
_JOB_OVER = sa.text(
    f"{_INSERT} SELECT 'job_failed', 'job:' || job_uuid, 'resolved', 'error', {_LABELS}, {_DATA} "
    "FROM job WHERE job_uuid = :job AND EXISTS (SELECT FROM job_event e WHERE e.job_uuid = :job "
    "AND e.to_state IN ('failed', 'quarantined'))"
)
_JOB_SUCCEEDED = sa.text(
    f"{_INSERT} SELECT 'job_succeeded', 'done:' || job_uuid, 'note', 'info', {_LABELS}, {_DATA} "
    "FROM job WHERE job_uuid = :job "
    "AND EXISTS (SELECT FROM control WHERE name = 'notify' AND (value->>'succeeded')::bool)"
)


def job_moved(session: Session, job_uuid: UUID, to_state: str | None) -> None:
    """Publish what a job's new state means to operators; the job's row has that state already."""
    if to_state in _FAILED:
        statements = [_JOB_FAILED]
    elif to_state in _OVER:
        statements = [_JOB_OVER, *([_JOB_SUCCEEDED] if to_state == "succeeded" else [])]
    else:
        return
    written = sum(session.execute(statement, {"job": job_uuid}).rowcount for statement in statements)  # type: ignore[attr-defined]  # a DML result has it
    if written:
        _wake(session)


def _wake(session: Session) -> None:
    session.execute(sa.text("SELECT pg_notify(:channel, '{}')"), {"channel": CHANNEL})
