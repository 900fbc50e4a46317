"""Jellyfin, Plex and the Subsonic API: one request each that asks for a scan."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import httpx

from ironclad import __version__

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_SUBSONIC_API = "1.16.1"


class ScanRefusedError(Exception):
    """A media server did not take the request. Never holds a secret."""


@dataclass(frozen=True, slots=True)
class Server:
    """Where a server is, and where it sees the library."""

    url: str
    library: Path
    seen_as: str
    """The library's folder on the server; empty if it is the same there."""
    timeout: float
    """Seconds of silence."""

    def path(self, folder: Path) -> str:
        """A folder as the server sees it."""
        if not self.seen_as:
            return str(folder)
        return str(PurePosixPath(self.seen_as) / folder.relative_to(self.library).as_posix())

    def send(self, method: str, path: str, **more: Any) -> httpx.Response:
        """One request. Raises `ScanRefusedError` for an answer that is none of success."""
        try:
            with httpx.Client(timeout=self.timeout) as client:
                reply = client.request(method, self.url.rstrip("/") + path, **more)
        except (httpx.HTTPError, httpx.InvalidURL) as exc:
            raise ScanRefusedError(f"{type(exc).__name__}: {exc}") from exc
        if not reply.is_success:
            raise ScanRefusedError(f"it answered {reply.status_code}")
        return reply


@dataclass(frozen=True, slots=True)
class Jellyfin:
    """`POST /Library/Media/Updated`: Jellyfin looks at the folders named, after its own short delay."""

    server: Server
    api_key: str
    name: str = "jellyfin"

    def scan(self, folders: Sequence[Path]) -> None:
        """Ask for a scan of these folders."""
        updates = [{"Path": self.server.path(folder), "UpdateType": "Created"} for folder in folders]
        header = {"Authorization": f'MediaBrowser Token="{self.api_key}"'}
        self.server.send("POST", "/Library/Media/Updated", json={"Updates": updates}, headers=header)


@dataclass(frozen=True, slots=True)
class Plex:
    """`GET /library/sections/N/refresh`: Plex looks at one folder of a library; without a number, at all."""

    server: Server
    token: str
    section: int | None
    name: str = "plex"

    def scan(self, folders: Sequence[Path]) -> None:
        """Ask for a scan of these folders."""
        header = {"X-Plex-Token": self.token}
        if self.section is None:
            self.server.send("GET", "/library/sections/all/refresh", headers=header)
            return
        for folder in folders:
            where = {"path": self.server.path(folder)}
            self.server.send("GET", f"/library/sections/{self.section}/refresh", params=where, headers=header)


@dataclass(frozen=True, slots=True)
class Subsonic:
    """`startScan` of the Subsonic API (1.15.0): Navidrome, Gonic, Airsonic … look for whatever has changed."""

    server: Server
    user: str
    password: str
    name: str = "subsonic"

    def scan(self, folders: Sequence[Path]) -> None:
        """Ask for a scan; the API knows no folders."""
        del folders
        salt = secrets.token_hex(8)
        # The API's own scheme: the password itself never travels.
        token = hashlib.md5(f"{self.password}{salt}".encode(), usedforsecurity=False).hexdigest()
        parameters = {
            "u": self.user, "t": token, "s": salt, "v": _SUBSONIC_API, "c": f"ironclad-{__version__}", "f": "json",
        }  # fmt: skip
        reply = self.server.send("GET", "/rest/startScan.view", params=parameters)
        try:
            answer = reply.json()["subsonic-response"]
            status, error = answer["status"], answer.get("error", {}).get("message", "")
        except (ValueError, KeyError, TypeError, AttributeError) as exc:
            raise ScanRefusedError("its answer is none of the Subsonic API") from exc
        if status != "ok":
            raise ScanRefusedError(f"it said {error or status}")
