"""Server-sent events: who hears what, how many may listen, and how it ends."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING, Any

import api_lab
import psycopg
import pytest
import sqlalchemy as sa
from api_lab import Served

from ironclad.access import tokens
from ironclad.access.roles import Role
from ironclad.api import routes_events
from ironclad.db.session import Database
from ironclad.errors import DatabaseUnavailable
from ironclad.jobs import control

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import httpx

    from ironclad.config import Settings


def events(answer: httpx.Response) -> Iterator[tuple[str, dict[str, Any]]]:
    """What comes, without comments."""
    kind = ""
    for line in answer.iter_lines():
        if line.startswith("event: "):
            kind = line.removeprefix("event: ")
        elif line.startswith("data: "):
            yield kind, json.loads(line.removeprefix("data: "))


def hold(database: Database, job: Any, *, held: bool = True) -> None:
    with database.session() as session:
        control.hold(session, job, held=held, actor="test")


def until(heard: Iterator[tuple[str, dict[str, Any]]], kind: str) -> list[tuple[str, dict[str, Any]]]:
    """What comes up to (with) the first event of a kind."""
    found = []
    for one in heard:
        found.append(one)
        if one[0] == kind or one[1].get("kind") == kind:
            return found
    raise AssertionError(found)


def test_a_jobs_changes_are_heard(served: Served, database: Database) -> None:
    with served.client(api_lab.token(database, Role.READ)) as client, client.stream("GET", "/v1/events") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        heard = events(answer)
        assert next(heard) == ("reset", {})
        job = api_lab.job(database, served.settings)
        hold(database, job)
        kinds = [data["kind"] for kind, data in until(heard, "held") if kind == "job" and data["job"] == str(job)]
        assert kinds == ["received", "queued", "held"]
        with database.session() as session:
            control.pause(session, None, paused=True, actor="test")
        assert until(heard, "installation")[-1][1]["name"] == "pipeline"


def test_a_submitter_hears_of_own_jobs_only(served: Served, database: Database) -> None:
    with served.client(api_lab.token(database)) as client, client.stream("GET", "/v1/events") as answer:
        heard = events(answer)
        assert next(heard)[0] == "reset"
        api_lab.job(database, served.settings, "bo")
        with database.session() as session:
            control.pause(session, None, paused=True, actor="test")
        mine = api_lab.job(database, served.settings)
        jobs = {data.get("job") for _, data in until(heard, "queued")}
        assert jobs - {None} == {str(mine)}
        hold(database, mine)
        assert {kind for kind, _ in until(heard, "held")} == {"job"}


def test_a_submitter_is_told_to_look_when_it_cannot_be_told_whose_job_it_is(
    api_settings: Callable[..., Settings], database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = api_settings()
    job = api_lab.job(database, settings)  # before the service listens: it must not have learned whose it is
    session = Database.session

    def in_use(asked: Database) -> Any:
        """Every connection of the service is in use when the hub wants one."""
        if threading.current_thread().name == "hub":
            raise DatabaseUnavailable("All connections of this process are in use.")
        return session(asked)

    with (
        Served(settings) as served,
        served.client(api_lab.token(database)) as client,
        client.stream("GET", "/v1/events") as answer,
    ):
        heard = events(answer)
        assert next(heard)[0] == "reset"
        api_lab.job(database, settings)
        until(heard, "queued")  # so the feed is connected
        with monkeypatch.context() as busy:
            busy.setattr(Database, "session", in_use)
            hold(database, job)
            assert next(heard) == ("reset", {})
        hold(database, job, held=False)
        assert until(heard, "released")[-1][1]["job"] == str(job)


def test_only_so_many_may_listen(api_settings: Callable[..., Settings], database: Database) -> None:
    with Served(api_settings(listeners=1)) as served, served.client(api_lab.token(database)) as client:
        with client.stream("GET", "/v1/events") as first:
            heard = events(first)  # kept: httpx closes the connection with the last reader
            assert next(heard)[0] == "reset"
            with client.stream("GET", "/v1/events") as refused:
                assert refused.status_code == 503
                assert json.loads(refused.read())["code"] == "E_TOO_BUSY"
            assert "ironclad_api_listeners 1.0" in client.get(f"{served.runtime.url}/metrics").text
        # The place is free again as soon as the server has seen the first one go.
        for _ in range(3000):
            with client.stream("GET", "/v1/events") as second:
                if second.status_code == 200:
                    break
        else:
            pytest.fail("the place was never free again")


def test_a_stop_ends_listeners_at_once(served: Served, database: Database) -> None:
    with served.client(api_lab.token(database)) as client, client.stream("GET", "/v1/events") as answer:
        heard = events(answer)
        assert next(heard)[0] == "reset"
        served.runtime.stop()
        assert [kind for kind, _ in heard][-1] == "end"
    served.stop()


def test_a_lost_connection_to_the_database_is_made_again(served: Served, database: Database) -> None:
    with served.client(api_lab.token(database, Role.READ)) as client, client.stream("GET", "/v1/events") as answer:
        heard = events(answer)
        assert next(heard)[0] == "reset"
        job = api_lab.job(database, served.settings)
        until(heard, "queued")  # so the feed is connected
        with database.session() as session:
            ended = session.scalars(
                sa.text(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE application_name = 'ironclad-feed' AND datname = current_database()"
                )
            ).all()
        assert ended == [True]
        until(heard, "reset")
        hold(database, job)
        until(heard, "held")


def test_what_somebody_else_sends_on_the_channel_ends_nothing(served: Served, database: Database) -> None:
    with served.client(api_lab.token(database)) as client, client.stream("GET", "/v1/events") as answer:
        heard = events(answer)
        assert next(heard)[0] == "reset"
        with database.session() as session:
            for payload in ('{"job": "nonsense"}', '{"job": null, "id": "x"}', "[]", "nonsense"):
                session.execute(sa.text("SELECT pg_notify('ironclad_event', :payload)"), {"payload": payload})
        api_lab.job(database, served.settings)
        until(heard, "queued")


def test_a_revoked_token_hears_no_more_however_much_happens(
    served: Served, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routes_events, "HEARTBEAT_SECONDS", 1.0)
    over = threading.Event()

    def keep_busy() -> None:
        """Something happens far more often than a comment would come."""
        with psycopg.connect(database.dsn, autocommit=True) as connection:
            while not over.wait(0.1):
                connection.execute("SELECT pg_notify('ironclad_event', '{}')")

    busy = threading.Thread(target=keep_busy)
    busy.start()
    try:
        with (
            served.client(api_lab.token(database, Role.READ)) as client,
            client.stream("GET", "/v1/events") as answer,
        ):
            heard = events(answer)
            until(heard, "installation")
            with database.session() as session:
                (token,) = tokens.listed(session)
                assert token.id is not None
                tokens.revoke(session, token.id)
            for count, _ in enumerate(heard):  # it ends
                assert count < 300
    finally:
        over.set()
        busy.join()


def test_a_revoked_token_hears_no_more(served: Served, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes_events, "HEARTBEAT_SECONDS", 0.05)
    with served.client(api_lab.token(database)) as client, client.stream("GET", "/v1/events") as answer:
        lines = answer.iter_lines()
        assert "event: reset" in lines  # it comes when the feed is connected, be that after the first comments
        assert ": here" in lines
        with database.session() as session:
            (token,) = tokens.listed(session)
            assert token.id is not None
            tokens.revoke(session, token.id)
        assert all(line in {"", ": here"} for line in lines)  # until it ends
