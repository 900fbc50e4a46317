"""The notifier under fire: real sinks that fail, `ironclad run notify` killed again and again, every event counted."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import sqlalchemy as sa
from sinks import HttpSink, MailSink, flaky

from ironclad.jobs import notices
from ironclad.jobs.notices import Status

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ironclad.db.session import Database

_NAME = re.compile(r"event-(\d{6})")


@dataclass(frozen=True, slots=True)
class Count:
    """What became of all events."""

    events: int
    arrived: int
    """Events that a sink took in at least once."""
    dead: int
    """Events of dead letters that did not arrive."""
    lost: int
    """Neither of both: there must be none."""
    duplicates: int
    """Arrivals beyond the first."""
    by_sinks: int
    """Calls that a sink failed after it had taken the message in: each is the cause of one duplicate."""
    calls: int
    kills: int
    seconds: float

    @property
    def ours(self) -> int:
        """Duplicates that no sink caused."""
        return self.duplicates - self.by_sinks


class NotifyLab:
    """Three channels of three kinds, each with a real server that fails at a rate.

    Args:
        database: a fresh one.
        environment: of an installation.
        rate: of calls that fail, half of them after the message was taken in.
        notify: more settings of notifications, as environment variables.
    """

    def __init__(
        self,
        database: Database,
        environment: Mapping[str, str],
        *,
        rate: float,
        notify: Mapping[str, str] | None = None,
    ) -> None:
        self.database = database
        self.sinks: dict[str, HttpSink | MailSink] = {
            "json": HttpSink(flaky(rate, 1)), "hook": HttpSink(flaky(rate, 2)), "mail": MailSink(flaky(rate, 3, 451)),
        }  # fmt: skip
        self._environment = dict(environment)
        self._more = dict(notify or {})
        self._process: subprocess.Popen[bytes] | None = None
        self.kills = 0

    def __enter__(self) -> Self:
        for sink in self.sinks.values():
            sink.__enter__()
        json, hook, mail = self.sinks.values()
        assert isinstance(json, HttpSink)
        assert isinstance(hook, HttpSink)
        assert isinstance(mail, MailSink)
        prefix = "IRONCLAD_NOTIFY__"
        self._environment |= {
            f"{prefix}CHANNELS__JSON__URL": json.json_url,
            f"{prefix}CHANNELS__HOOK__URL": hook.url, f"{prefix}CHANNELS__HOOK__TYPE": "webhook",
            f"{prefix}CHANNELS__HOOK__SECRET": "shared-secret",
            f"{prefix}CHANNELS__MAIL__URL": mail.mail_url,
            f"{prefix}BACKOFF_SECONDS": "0.05", f"{prefix}BACKOFF_MAX_SECONDS": "0.5",
        }  # fmt: skip
        for name in self.sinks:
            self._environment |= {
                f"{prefix}CHANNELS__{name.upper()}__RATE_PER_MINUTE": "1000000",
                f"{prefix}CHANNELS__{name.upper()}__BURST": "1000000",
            }
        self._environment |= {f"{prefix}{name}": value for name, value in self._more.items()}
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(30)
        for sink in self.sinks.values():
            sink.__exit__(None, None, None)

    def publish(self, first: int, count: int, *, status: Status = Status.FIRING) -> None:
        """So many failures; each is for one of the channels, in turn. In one statement: it is not what is measured."""
        with self.database.session() as session:
            session.execute(
                sa.text(
                    "INSERT INTO notice (kind, alert, status, severity, labels, data) "
                    "SELECT 'job_failed', 'job:' || n, :status, 'error', jsonb_build_object('sink', "
                    "(CAST(:sinks AS text[]))[n % 3 + 1], 'code', 'E_NOT_AUDIO', 'stage', 'validate'), "
                    "jsonb_build_object('name', 'event-' || lpad(n::text, 6, '0'), 'code', 'E_NOT_AUDIO') "
                    "FROM generate_series(CAST(:first AS int), CAST(:last AS int)) AS n"
                ),
                {"status": status.value, "sinks": list(self.sinks), "first": first, "last": first + count - 1},
            )
            session.execute(sa.text("SELECT pg_notify(:channel, '{}')"), {"channel": notices.CHANNEL})

    def start(self) -> None:
        """A notifier, as systemd starts it."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "ironclad.cli.main", "run", "notify"],
            env={"PATH": "/usr/bin:/bin", **self._environment}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def kill(self) -> None:
        """As the out-of-memory killer does."""
        assert self._process is not None
        assert self._process.poll() is None, "it ended by itself"
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(30)
        self.kills += 1

    def stop(self) -> int:
        """As systemd does; the exit code."""
        assert self._process is not None
        self._process.terminate()
        return self._process.wait(60)

    def arrived(self) -> int:
        """Messages that the sinks took in so far."""
        return sum(len(sink.received) for sink in self.sinks.values())

    def until_arrived(self, count: int, seconds: float) -> None:
        """Wait for so many messages, with a deadline."""
        deadline = time.monotonic() + seconds
        while self.arrived() < count:
            assert time.monotonic() < deadline, f"{self.arrived()} of {count} messages after {seconds:g} s"
            assert self._process is None or self._process.poll() is None, "the notifier ended by itself"
            time.sleep(0.02)

    def until_settled(self, seconds: float) -> None:
        """Wait until nothing is left to tell."""
        deadline = time.monotonic() + seconds
        while self.left():
            assert time.monotonic() < deadline, f"{self.left()} left after {seconds:g} s"
            time.sleep(0.1)

    def left(self) -> int:
        """Events and messages that wait."""
        with self.database.session() as session:
            return int(
                session.scalar(
                    sa.text(
                        "SELECT (SELECT count(*) FROM notice WHERE routed_at IS NULL) "
                        "+ (SELECT count(*) FROM notification WHERE state = 'pending') "
                        "+ (SELECT count(*) FROM message WHERE state IN ('pending', 'sending'))"
                    )
                )
                or 0
            )

    def count(self, events: int, began: float) -> Count:
        """What became of them; asks the sinks, and for dead letters the database."""
        arrivals: Counter[str] = Counter()
        for sink in self.sinks.values():
            for call in sink.received:
                arrivals.update(set(_NAME.findall(call.text)))
        with self.database.session() as session:
            texts = session.scalars(sa.text("SELECT body->>'text' FROM message WHERE state = 'dead'")).all()
        dead = {name for text in texts for name in _NAME.findall(text)} - set(arrivals)
        by_sinks = sum(not call.told for sink in self.sinks.values() for call in sink.received)
        calls = sum(sink.calls for sink in self.sinks.values())
        return Count(
            events, len(arrivals), len(dead), events - len(arrivals) - len(dead),
            sum(arrivals.values()) - len(arrivals), by_sinks, calls, self.kills, time.monotonic() - began,
        )  # fmt: skip


EACH_ALONE = {
    "ROUTES": '[{"labels": {"sink": "json"}, "channels": ["json"], "group_by": ["..."], "group_wait_seconds": 0},'
    ' {"labels": {"sink": "hook"}, "channels": ["hook"], "group_by": ["..."], "group_wait_seconds": 0},'
    ' {"labels": {"sink": "mail"}, "channels": ["mail"], "group_by": ["..."], "group_wait_seconds": 0}]'
}
"""Every event is a message of its own, to one channel."""


def bombard(lab: NotifyLab, events: int, kills: int, *, seconds: float) -> Count:
    """Publish, kill at moments spread over the delivery, wait until all is settled, and count."""
    began = time.monotonic()
    lab.publish(0, events)
    lab.start()
    for number in range(1, kills + 1):
        lab.until_arrived(round(events * number / (kills + 1.5)), seconds)
        lab.kill()
        lab.start()
    lab.until_settled(seconds)
    return lab.count(events, began)
