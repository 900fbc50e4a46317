"""Every endpoint with every role, on a job of its own user and on somebody else's."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import api_lab
import httpx
import pytest
import sqlalchemy as sa
from command_line import logging_kept

from ironclad import log
from ironclad.access import tokens
from ironclad.access.roles import Role
from ironclad.api import app, description

if TYPE_CHECKING:
    from api_lab import Served

    from ironclad.db.session import Database


@dataclass(frozen=True)
class Case:
    """What each role gets: on its own user's job (or where there is none), and on another's."""

    submit: int
    read: int
    operate: int
    others: int | None = None
    """What `submit` gets on a job of somebody else; the other roles make no difference."""
    settled: bool = False
    body: Any = None


MATRIX: Final = {
    ("POST", "/v1/songs"): Case(201, 403, 201),
    ("GET", "/v1/jobs"): Case(200, 200, 200),
    ("GET", "/v1/jobs/{job_uuid}"): Case(200, 200, 200, 404),
    ("GET", "/v1/jobs/{job_uuid}/events"): Case(200, 200, 200, 404),
    ("GET", "/v1/jobs/{job_uuid}/why"): Case(200, 200, 200, 404),
    ("POST", "/v1/jobs/{job_uuid}/hold"): Case(200, 403, 200, 404),
    ("POST", "/v1/jobs/{job_uuid}/release"): Case(200, 403, 200, 404),
    ("POST", "/v1/jobs/{job_uuid}/cancel"): Case(200, 403, 200, 404),
    ("POST", "/v1/jobs/{job_uuid}/retry"): Case(200, 403, 200, 404, settled=True),
    ("POST", "/v1/jobs/{job_uuid}/replay"): Case(200, 403, 200, 404, settled=True, body={"stage": "separate"}),
    ("GET", "/v1/jobs/{job_uuid}/files"): Case(200, 200, 200, 404),
    ("GET", "/v1/jobs/{job_uuid}/files/{file_id}"): Case(200, 200, 200, 404),
    ("HEAD", "/v1/jobs/{job_uuid}/files/{file_id}"): Case(200, 200, 200, 404),
    ("GET", "/v1/events"): Case(200, 200, 200),
    ("GET", "/v1/status"): Case(403, 200, 200),
    ("GET", "/v1/failures"): Case(403, 200, 200),
    ("POST", "/v1/pause"): Case(403, 403, 200),
    ("POST", "/v1/resume"): Case(403, 403, 200),
}


def test_every_endpoint_is_in_the_matrix() -> None:
    assert set(description.rights(app.routes())) == set(MATRIX)


class Asking:
    def __init__(self, served: Served, database: Database) -> None:
        self.served = served
        self.database = database
        self.number = 0

    def __call__(self, client: httpx.Client, method: str, template: str, user: str) -> httpx.Response:
        """One request; the thing that it is about is new each time."""
        case = MATRIX[method, template]
        path = template
        more: dict[str, Any] = {}
        if "{job_uuid}" in template:
            made = api_lab.job(self.database, self.served.settings, user, settled=case.settled)
            file = api_lab.publish(self.database, self.served.settings, made, f"{made}.flac", b"music")
            path = template.format(job_uuid=made, file_id=file)
        if template == "/v1/songs":
            self.number += 1
            more = {"params": {"name": "a.flac"}, "content": f"song {self.number}".encode()}
        if case.body is not None:
            more["json"] = case.body
        with client.stream(method, path, **more) as answer:
            if answer.headers.get("content-type") != "text/event-stream; charset=utf-8":
                answer.read()
            return answer


@pytest.mark.parametrize("role", list(Role))
def test_what_each_role_may_do(served: Served, database: Database, role: Role) -> None:
    asking = Asking(served, database)
    with served.client(api_lab.token(database, role)) as client:
        for (method, template), case in MATRIX.items():
            own = asking(client, method, template, "ana")
            assert own.status_code == getattr(case, role.value), (method, template, own.status_code)
            if own.status_code == 403:
                assert own.json()["code"] == "E_FORBIDDEN"
            if case.others is not None:
                foreign = asking(client, method, template, "bo").status_code
                assert foreign == (case.others if role is Role.SUBMIT else own.status_code), (method, template, foreign)


def test_without_a_valid_token_nothing_is_told(served: Served, database: Database) -> None:
    secret = api_lab.token(database)
    with database.session() as session:
        (token,) = tokens.listed(session)
        assert token.id is not None
        tokens.revoke(session, token.id)
    asking = Asking(served, database)
    shown = {"nothing": {}, "basic": {"Authorization": "Basic YTpi"}, "empty": {"Authorization": "Bearer"}}
    shown |= {
        name: {"Authorization": f"Bearer {text}"}
        for name, text in {
            "unknown": f"icl_{'a' * 43}",
            "short": "icl_abc",
            "revoked": secret,
            "odd": "x" * 4000,
        }.items()
    }
    with served.client() as client:
        for headers in shown.values():
            for method, template in MATRIX if headers is shown["revoked"] else [("GET", "/v1/jobs")]:
                client.headers = httpx.Headers(headers)
                answer = asking(client, method, template, "ana")
                assert answer.status_code == 401, (method, template)
                assert answer.headers["www-authenticate"].startswith("Bearer")
                assert method == "HEAD" or answer.json()["code"] == "E_UNAUTHORISED"
                assert secret not in answer.text
    told = httpx.get(f"{served.runtime.url}/metrics", timeout=api_lab.PATIENCE).text
    assert f'ironclad_api_refused_tokens_total{{reason="revoked"}} {float(len(MATRIX))}' in told
    assert 'ironclad_api_refused_tokens_total{reason="unknown"} 1.0' in told
    assert 'ironclad_api_refused_tokens_total{reason="missing"} 3.0' in told


def test_somebody_elses_job_is_as_absent_as_one_that_never_was(served: Served, database: Database) -> None:
    bos = api_lab.job(database, served.settings, "bo")
    with served.client(api_lab.token(database)) as client:
        never = str(bos)[:-4] + "0000"
        answers = [client.get(f"/v1/jobs/{job}") for job in (bos, never)]
        assert [answer.status_code for answer in answers] == [404, 404]
        texts = [answer.text.replace(str(bos), "X").replace(never, "X") for answer in answers]
        assert texts[0] == texts[1]


def test_lists_show_what_the_token_may_see(served: Served, database: Database) -> None:
    mine, theirs = (api_lab.job(database, served.settings, user) for user in ("ana", "bo"))

    def listed(role: Role, **params: str) -> set[str]:
        with served.client(api_lab.token(database, role)) as client:
            return {one["job_uuid"] for one in client.get("/v1/jobs", params=params).json()["jobs"]}

    assert listed(Role.SUBMIT) == {str(mine)}
    assert listed(Role.SUBMIT, user="bo") == set()
    assert listed(Role.SUBMIT, search=".flac") == {str(mine)}
    assert listed(Role.READ) == {str(mine), str(theirs)}
    assert listed(Role.READ, user="bo") == {str(theirs)}


def test_who_did_it_is_in_the_history(served: Served, database: Database) -> None:
    made = api_lab.job(database, served.settings)
    with served.client(api_lab.token(database, label="door bell")) as client:
        client.post(f"/v1/jobs/{made}/hold")
        (held,) = [one for one in client.get(f"/v1/jobs/{made}/events").json()["events"] if one["kind"] == "held"]
    assert held["actor"] == "api:ana/door bell"
    with served.client(api_lab.token(database, Role.OPERATE, user="otto")) as client:
        client.post("/v1/pause", json={"pool": "cpu"})
        client.post("/v1/pause")
    with database.session() as session:
        value = session.scalar(sa.text("SELECT value FROM control WHERE name = 'pipeline'"))
        assert session.scalar(sa.text("SELECT paused FROM pool WHERE name = 'cpu'"))
    assert value == {"paused": True, "by": "api:otto/kitchen"}


def test_no_log_line_holds_a_secret(served: Served, database: Database) -> None:
    secret = api_lab.token(database)
    lines = io.StringIO()
    with logging_kept():
        log.configure(service="api", human=False, stream=lines)
        with served.client(secret) as client:
            client.get("/v1/jobs", params={"search": secret})
            client.get(f"/v1/{secret}")
        with served.client(secret[:-1] + "%") as client:
            client.get("/v1/jobs")
        served.stop()
    told = [json.loads(line) for line in lines.getvalue().splitlines()]
    assert [one["route"] for one in told if one["event"] == "request"] == ["/v1/jobs", "none", "/v1/jobs"]
    assert secret[4:40] not in lines.getvalue()
