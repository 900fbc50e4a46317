"""Scan triggers against local servers that speak as Jellyfin, Plex and Navidrome do, or do not answer."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import parse_qs, urlsplit

import pytest
from stage_contexts import claimed, context

from ironclad.config import Settings, load
from ironclad.errors import Cancelled
from ironclad.library import scan as plugin
from ironclad.stages import scans

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from typer.testing import Result

    from ironclad.db.session import Database
    from ironclad.plugins.manager import PluginManager
    from ironclad.stages.context import StageContext

Run = Callable[..., "Result"]
SECRETS = ("jelly-key", "plex-token", "sub-pass")


@dataclass
class Asked:
    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: bytes


@dataclass
class FakeServers:
    """Answers for all three; `status` and `reply` change the answer, `stuck` keeps it back."""

    asked: list[Asked] = field(default_factory=list)
    status: int = 200
    reply: bytes = json.dumps({"subsonic-response": {"status": "ok", "scanStatus": {"scanning": True}}}).encode()
    stuck: bool = False
    released: threading.Event = field(default_factory=threading.Event)
    url: str = ""


class Handler(BaseHTTPRequestHandler):
    servers: ClassVar[FakeServers]

    def log_message(self, *_: object) -> None:
        return

    def do_GET(self) -> None:
        servers, parts = self.servers, urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        servers.asked.append(Asked(self.command, parts.path, parse_qs(parts.query), dict(self.headers), body))
        if servers.stuck:
            servers.released.wait(120)
        self.send_response(servers.status)
        self.send_header("Content-Length", str(len(servers.reply)))
        self.end_headers()
        self.wfile.write(servers.reply)

    do_POST = do_GET  # noqa: N815 - the base class's name


@pytest.fixture
def servers() -> Iterator[FakeServers]:
    state = FakeServers()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"servers": state}))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    state.url = f"http://127.0.0.1:{server.server_address[1]}"
    yield state
    state.released.set()
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def mine(environment: dict[str, str], settings: Settings, servers: FakeServers) -> Settings:
    """All three are the test's server; Jellyfin and Plex see the library elsewhere."""
    del settings  # its folders are made
    given = {
        "ENABLED": "true", "TIMEOUT_SECONDS": "60",
        "JELLYFIN__URL": servers.url, "JELLYFIN__API_KEY": SECRETS[0], "JELLYFIN__FOLDER": "/media/instrumentals",
        "PLEX__URL": f"{servers.url}/", "PLEX__TOKEN": SECRETS[1], "PLEX__SECTION": "7",
        "SUBSONIC__URL": servers.url, "SUBSONIC__USER": "ana", "SUBSONIC__PASSWORD": SECRETS[2],
    }  # fmt: skip
    return load(environ={**environment, **{f"IRONCLAD_LIBRARY__SCAN__{name}": value for name, value in given.items()}})


@pytest.fixture
def stage(database: Database, mine: Settings, tmp_path: Path) -> Callable[..., StageContext]:
    """`stage(settings)`: the context of a claimed job."""
    numbers = iter(range(100))

    def make(settings: Settings = mine) -> StageContext:
        claim = claimed(database, settings, tmp_path / f"{next(numbers)}.flac")
        return context(database, settings, claim, tmp_path / "organize", {})

    return make


def changed(settings: Settings, **scan: Any) -> Settings:
    now = settings.library.scan.model_copy(update=scan)
    return settings.model_copy(update={"library": settings.library.model_copy(update={"scan": now})})


def only(*triggers: Any) -> Callable[[], PluginManager]:
    """Plugins as if one plugin brought these triggers."""
    return lambda: SimpleNamespace(load_all=lambda: None, collect=lambda *_, **__: [("x", list(triggers))])  # type: ignore[return-value]  # all that is used


def test_each_server_is_asked_in_its_own_way(
    mine: Settings, servers: FakeServers, stage: Callable[..., StageContext]
) -> None:
    album = mine.layout.output / "Ana" / "Colours"
    became = scans.announce(stage(), [album, album])
    assert became == [{"name": name, "error": None} for name in ("jellyfin", "plex", "subsonic")]
    asked = {one.path: one for one in servers.asked}
    jelly = asked["/Library/Media/Updated"]
    assert (jelly.method, jelly.headers["Authorization"]) == ("POST", 'MediaBrowser Token="jelly-key"')
    assert json.loads(jelly.body) == {
        "Updates": [{"Path": "/media/instrumentals/Ana/Colours", "UpdateType": "Created"}]
    }
    plex = asked["/library/sections/7/refresh"]
    assert (plex.method, plex.query, plex.headers["X-Plex-Token"]) == ("GET", {"path": [str(album)]}, "plex-token")
    subsonic = asked["/rest/startScan.view"]
    [salt], [token] = subsonic.query["s"], subsonic.query["t"]
    assert token == hashlib.md5(f"sub-pass{salt}".encode(), usedforsecurity=False).hexdigest()
    assert "sub-pass" not in str(subsonic)


def test_nobody_is_told_unless_that_is_wanted(
    mine: Settings, servers: FakeServers, stage: Callable[..., StageContext]
) -> None:
    assert scans.announce(stage(changed(mine, enabled=False)), [mine.layout.output]) == []
    assert Settings().library.scan.enabled is False
    assert servers.asked == []
    assert plugin.ironclad_scan_triggers(Settings()) == []


def test_plex_without_a_section_looks_at_all(mine: Settings, servers: FakeServers) -> None:
    plex = mine.library.scan.plex.model_copy(update={"section": None})
    [trigger] = [one for one in plugin.ironclad_scan_triggers(changed(mine, plex=plex)) if one.name == "plex"]
    trigger.scan([mine.layout.output])
    assert [one.path for one in servers.asked] == ["/library/sections/all/refresh"]


@pytest.mark.parametrize(
    ("status", "reply", "error"),
    [
        (401, b"{}", "it answered 401"), (302, b"", "it answered 302"), (200, b"<html>", "none of the Subsonic API"),
        (200, b'{"subsonic-response": {"status": "failed", "error": {"message": "Wrong"}}}', "it said Wrong"),
        (200, b"[]", "none of the Subsonic API"),
    ],
)  # fmt: skip
def test_a_refusal_is_recorded_without_any_secret(  # noqa: PLR0917 - fixtures
    status: int, reply: bytes, error: str, mine: Settings, servers: FakeServers, stage: Callable[..., StageContext]
) -> None:  # fmt: skip
    servers.status, servers.reply = status, reply
    given = stage()
    became = {one["name"]: one["error"] for one in scans.announce(given, [mine.layout.output])}
    assert error in became["subsonic"]
    logged = mine.layout.job_log(given.job.job_uuid).read_text()
    assert "scan_trigger_failed" in logged
    assert not any(secret in logged + str(became) for secret in SECRETS)


def test_a_server_that_failed_is_left_alone_for_a_while(
    mine: Settings, servers: FakeServers, stage: Callable[..., StageContext]
) -> None:
    servers.status = 500
    scans.announce(stage(), [mine.layout.output])
    asked = len(servers.asked)
    again = scans.announce(stage(), [mine.layout.output])
    assert {one["error"] for one in again} == {"it failed lately and is left alone"}
    assert len(servers.asked) == asked == 3
    servers.status = 200
    rested = changed(mine, outage_seconds=0.0)
    assert all(one["error"] for one in scans.announce(stage(rested), [mine.layout.output]))  # not over yet


def test_servers_that_do_not_answer_cost_one_time_limit_together(
    mine: Settings, servers: FakeServers, stage: Callable[..., StageContext]
) -> None:
    servers.stuck = True
    begun = time.monotonic()
    became = scans.announce(stage(changed(mine, timeout_seconds=0.5)), [mine.layout.output])
    assert time.monotonic() - begun < 60  # not the 120 s after which a stuck server answers, let alone three times
    assert len(became) == 3
    assert all(one["error"] for one in became)


def test_nothing_listens_there(mine: Settings, stage: Callable[..., StageContext]) -> None:
    nowhere = mine.library.scan.jellyfin.model_copy(update={"url": "http://127.0.0.1:9"})
    odd = mine.library.scan.plex.model_copy(update={"url": "no url"})
    became = scans.announce(stage(changed(mine, jellyfin=nowhere, plex=odd)), [mine.layout.output])
    errors = {one["name"]: one["error"] for one in became}
    assert "ConnectError" in errors["jellyfin"]
    assert errors["plex"]
    assert errors["subsonic"] is None


def test_a_plugins_own_trigger_is_called_and_may_fail(mine: Settings, stage: Callable[..., StageContext]) -> None:
    told: list[Any] = []
    good = SimpleNamespace(name="mine", scan=told.extend)
    bad = SimpleNamespace(name="bad", scan=lambda _folders: 1 / 0)
    odd = object()  # no trigger at all
    became = scans.announce(stage(), [mine.layout.output], only(bad, good, odd))
    assert told == [mine.layout.output]
    assert {one["name"]: bool(one["error"]) for one in became} == {"bad": True, "mine": False, "object": True}


def test_a_cancel_is_heard_while_waiting(
    mine: Settings, servers: FakeServers, stage: Callable[..., StageContext]
) -> None:
    servers.stuck = True
    given = stage()

    def cancelled() -> None:
        raise Cancelled

    object.__setattr__(given, "check", cancelled)
    with pytest.raises(Cancelled):
        scans.announce(given, [mine.layout.output])


def test_secrets_are_masked(run: Run, mine: Settings) -> None:
    del mine
    shown = run("config", "show", IRONCLAD_LIBRARY__SCAN__PLEX__TOKEN="plex-token")
    assert shown.exit_code == 0
    assert "library.scan.plex.token" in shown.stdout
    assert "plex-token" not in shown.stdout
