"""A local server that speaks MusicBrainz' XML, AcoustID's JSON and the Cover Art Archive's paths.

It misbehaves on demand.
"""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, ClassVar
from urllib.parse import parse_qs, urlsplit

import pytest

from ironclad.metadata.cache import FileCache
from ironclad.metadata.http import Manners
from ironclad.metadata.musicbrainz import MusicBrainz, Service
from ironclad.metadata.rate import FileGate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

HEAD = (
    '<?xml version="1.0" encoding="UTF-8"?><metadata xmlns="http://musicbrainz.org/ns/mmd-2.0#" '
    'xmlns:ns2="http://musicbrainz.org/ns/ext#-2.0">'
)
RECORDING = """
<recording id="{id}" ns2:score="100"><title>{title}</title><length>{length}</length>
 <artist-credit><name-credit joinphrase=" feat. "><name>Ann X</name>
   <artist id="a1"><name>Ann</name></artist></name-credit>
  <name-credit><artist id="a2"><name>Bob</name></artist></name-credit></artist-credit>
 <isrc-list count="1"><isrc id="USABC0100001"/></isrc-list>
 <release-list count="2">
  <release id="r-bootleg"><title>{album}</title><status>Bootleg</status><release-group type="Album" id="rg1">
    <primary-type>Album</primary-type></release-group><date>1999</date></release>
  <release id="r1"><title>{album}</title><status>Official</status>
   <artist-credit><name-credit><artist id="a1"><name>Ann</name></artist></name-credit></artist-credit>
   <release-group type="Album" id="rg1"><title>{album}</title><primary-type>Album</primary-type></release-group>
   <date>2001-05-03</date><country>GB</country>
   <medium-list count="2"><medium><position>2</position><format>CD</format>
    <track-list count="12" offset="2"><track id="t1"><position>3</position><number>3</number><title>{title}</title>
    </track></track-list></medium></medium-list></release></release-list>
</recording>"""


def recording(recording_id: str = "rec1", title: str = "Song", album: str = "Album", length: int = 210_000) -> str:
    return RECORDING.format(id=recording_id, title=title, album=album, length=length)


@dataclass
class Asked:
    """One request as the server saw it."""

    at: float
    path: str
    query: dict[str, list[str]]
    agent: str


@dataclass
class FakeService:
    """What the server answers: `faults` first, one each, then the truth."""

    recordings: list[str] = field(default_factory=lambda: [recording()])
    cover: bytes = b""
    sounds: dict[str, dict[str, float]] = field(default_factory=dict)
    """Fingerprint -> recording id -> score."""
    key: str = "the-key"
    """The only client key that AcoustID takes here."""
    faults: deque[str] = field(default_factory=deque)
    asked: list[Asked] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    released: threading.Event = field(default_factory=threading.Event)
    url: str = ""


class Handler(BaseHTTPRequestHandler):
    service: ClassVar[FakeService]
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        return

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        self.answer(parts.path, parse_qs(parts.query), *self.truth(parts.path))

    def do_POST(self) -> None:
        path = urlsplit(self.path).path
        form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode("ascii"))
        self.answer(path, form, *self.heard(form))

    def answer(self, path: str, query: dict[str, list[str]], status: int, body: bytes) -> None:
        service = self.service
        with service.lock:
            asked = Asked(time.time(), path, query, self.headers["User-Agent"])
            service.asked.append(asked)
            fault = service.faults.popleft() if service.faults else ""
        match fault:
            case "503":
                self.reply(503, b"<error/>", {"Retry-After": "0"})
            case "502":
                self.reply(502, b"bad gateway")
            case "slow":
                service.released.wait(10)
                self.close_connection = True
            case "drop":
                self.close_connection = True
            case "cut":  # fewer bytes than promised
                self.reply(status, body[: len(body) // 2], {"Content-Length": str(len(body))})
                self.close_connection = True
            case "half":  # a whole answer with half a document
                self.reply(status, body[: len(body) // 2])
            case "html":
                self.reply(200, b"<html><body>captive portal</body></html>")
            case "other":
                self.reply(200, (HEAD + "<artist-list/></metadata>").encode())
            case _:
                self.reply(status, body)

    def truth(self, path: str) -> tuple[int, bytes]:
        service = self.service
        if path.startswith(("/release/", "/release-group/")):
            return (200, service.cover) if service.cover and "none" not in path else (404, b"")
        if path.startswith("/ws/2/recording/"):
            wanted = f'id="{path.rpartition("/")[2]}"'
            found = [xml for xml in service.recordings if wanted in xml]
            return (200, (HEAD + found[0] + "</metadata>").encode()) if found else (404, b"<error/>")
        listed = f'<recording-list count="{len(service.recordings)}" offset="0">{"".join(service.recordings)}'
        return 200, (HEAD + listed + "</recording-list></metadata>").encode()

    def heard(self, form: dict[str, list[str]]) -> tuple[int, bytes]:
        """What AcoustID's documentation (acoustid.org/webservice, "Lookup by fingerprint") says of such a question."""
        missing = [name for name in ("client", "duration", "fingerprint") if name not in form]
        if missing:
            return self.refusal(400, 2, f'missing required parameter "{missing[0]}"')
        if form["client"] != [self.service.key]:
            return self.refusal(400, 4, "invalid API key")
        if form["fingerprint"] == ["broken"]:
            return self.refusal(400, 3, "invalid fingerprint")
        known = self.service.sounds.get(form["fingerprint"][0], {})
        results = [
            {
                "id": f"sound-of-{name}", "score": score,
                "recordings": [{"id": name, "title": "Song", "artists": [{"id": "a1", "name": "Ann"}]}],
            }
            for name, score in known.items()
        ]  # fmt: skip
        return 200, json.dumps({"status": "ok", "results": [*results, {"id": "nameless", "score": 0.99}]}).encode()

    @staticmethod
    def refusal(status: int, code: int, message: str) -> tuple[int, bytes]:
        return status, json.dumps({"status": "error", "error": {"code": code, "message": message}}).encode()

    def reply(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | (headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def service() -> Iterator[FakeService]:
    state = FakeService()
    handler = type("BoundHandler", (Handler,), {"service": state})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    state.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield state
    finally:
        state.released.set()
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def manners() -> Manners:
    """Quick, for tests that are not about time."""
    return Manners(contact="test@example.org", interval=0.0, timeout=60, backoff=0.01, attempts=4)


@pytest.fixture
def client(service: FakeService, manners: Manners, tmp_path: Path) -> Iterator[Callable[..., MusicBrainz]]:
    """`client()`: a client with its own cache; `client(cache="x")` shares the cache of that name."""
    made: list[MusicBrainz] = []

    def make(*, cache: str = "cache", check: Callable[[], None] | None = None, **changes: float) -> MusicBrainz:
        where = Service(url=service.url, manners=replace(manners, **changes))  # type: ignore[arg-type]  # numbers
        client = MusicBrainz(where, FileGate(tmp_path / "gate"), FileCache(tmp_path / cache), check=check)
        made.append(client)
        return client

    yield make
    for one in made:
        one.close()
