"""Downloads over real HTTP on this machine, from a server that stops, lies and goes away."""

from __future__ import annotations

import hashlib
import threading
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from ironclad.engines import sources
from ironclad.engines.contract import ModelFile
from ironclad.errors import ModelMismatch, ModelUnreachable, NotFound

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CONTENT = bytes(range(256)) * 4000


@dataclass
class Site:
    """A server and how it behaves."""

    server: ThreadingHTTPServer
    content: bytes = CONTENT
    cut: int | None = None
    """Bytes after which the connection breaks."""
    ranges: bool = True
    status: int = 0
    asked: list[str | None] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/file"


@pytest.fixture
def site() -> Iterator[Site]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = self.headers["Range"]
            found.asked.append(asked)
            if found.status:
                self.send_error(found.status)
                return
            start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and found.ranges else 0
            body = found.content[start:]
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body if found.cut is None else body[: found.cut])

        def log_message(self, *_: Any) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    found = Site(server)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield found
    server.shutdown()
    server.server_close()
    thread.join()


def declared(*urls: str) -> ModelFile:
    return ModelFile(path="w.bin", size=len(CONTENT), sha256=hashlib.sha256(CONTENT).hexdigest(), sources=urls)


def test_a_file_arrives_and_is_not_fetched_twice(site: Site, tmp_path: Path) -> None:
    steps: list[tuple[int, int]] = []
    target = tmp_path / "w.bin"
    sources.download(declared(site.url), target, progress=lambda done, total: steps.append((done, total)))
    assert target.read_bytes() == CONTENT
    assert steps[-1] == (len(CONTENT), len(CONTENT))
    sources.download(declared(site.url), target)
    assert site.asked == [None]


@pytest.mark.parametrize("ranges", ["ranges", ""])
def test_it_goes_on_where_it_stopped(ranges: str, site: Site, tmp_path: Path) -> None:
    target = tmp_path / "w.bin"
    site.cut, site.ranges = 300_000, bool(ranges)
    with pytest.raises(ModelUnreachable):
        sources.download(declared(site.url), target)
    kept = target.stat().st_size
    assert 0 < kept <= 300_000
    site.cut = None
    sources.download(declared(site.url), target)
    assert target.read_bytes() == CONTENT
    assert site.asked == [None, f"bytes={kept}-"]


def test_another_file_than_the_pinned_one_does_not_stay(site: Site, tmp_path: Path) -> None:
    site.content = CONTENT[:-1] + b"?"
    with pytest.raises(ModelMismatch, match="gave SHA-256"):
        sources.download(declared(site.url), tmp_path / "w.bin")
    assert not (tmp_path / "w.bin").exists()


@pytest.mark.parametrize("content", [CONTENT + b"more", CONTENT[:-9]])
def test_a_file_of_another_size(content: bytes, site: Site, tmp_path: Path) -> None:
    site.content = content
    with pytest.raises(ModelUnreachable):
        sources.download(declared(site.url), tmp_path / "w.bin")


def test_the_next_source_is_asked(site: Site, tmp_path: Path) -> None:
    sources.download(declared("http://127.0.0.1:9/nobody", site.url), tmp_path / "w.bin")
    assert (tmp_path / "w.bin").read_bytes() == CONTENT


@pytest.mark.parametrize("status", [404, 500, 416])
def test_a_server_that_refuses(status: int, site: Site, tmp_path: Path) -> None:
    site.status = status
    with pytest.raises(ModelUnreachable, match=r"127\.0\.0\.1"):
        sources.download(declared(site.url), tmp_path / "w.bin")


def test_rubble_of_full_length_is_fetched_anew(site: Site, tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(b"x" * len(CONTENT))
    sources.download(declared(site.url), tmp_path / "w.bin")
    assert (tmp_path / "w.bin").read_bytes() == CONTENT


def test_a_size_that_nobody_knows(site: Site, tmp_path: Path) -> None:
    unknown = replace(declared(site.url), size=0)
    site.cut = 600_000
    with pytest.raises(ModelUnreachable):
        sources.download(unknown, tmp_path / "w.bin")
    site.cut, kept = None, (tmp_path / "w.bin").stat().st_size
    assert kept > 0
    for _ in range(2):
        sources.download(unknown, tmp_path / "w.bin")
        assert (tmp_path / "w.bin").read_bytes() == CONTENT
    assert site.asked == [None, f"bytes={kept}-"]
    site.content = CONTENT + b"more"
    (tmp_path / "w.bin").unlink()
    with pytest.raises(ModelMismatch):
        sources.download(unknown, tmp_path / "w.bin")


def test_no_source(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="models import"):
        sources.download(declared(), tmp_path / "w.bin")
