"""Telling media servers that there is something new. This module is the plugin that ships with Ironclad.

A trigger is told the folders in which files were published; what it raises is recorded and nothing more, because a
server that sleeps must not cost a job.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from ironclad.plugins.hookspecs import hookimpl

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ironclad.config import Settings

IRONCLAD_API = 1


class ScanTrigger(Protocol):
    """What a plugin's `ironclad_scan_triggers` returns some of."""

    @property
    def name(self) -> str:
        """Unique, for the record."""
        ...

    def scan(self, folders: Sequence[Path]) -> None:
        """Ask for a scan of these folders (absolute, below the library); whatever it raises is recorded as why not."""
        ...


@hookimpl
def ironclad_scan_triggers(settings: Settings) -> list[ScanTrigger]:
    """A trigger for each server that has a URL."""
    from ironclad.library.mediaservers import Jellyfin, Plex, Server, Subsonic  # noqa: PLC0415 - plugins load quickly

    scan = settings.library.scan
    library = settings.layout.output

    def server(url: str, seen_as: str = "") -> Server:
        return Server(url, library, seen_as, scan.timeout_seconds)

    found: list[ScanTrigger] = []
    if scan.jellyfin.url:
        found.append(Jellyfin(server(scan.jellyfin.url, scan.jellyfin.folder), _secret(scan.jellyfin.api_key)))
    if scan.plex.url:
        where = server(scan.plex.url, scan.plex.folder)
        found.append(Plex(where, _secret(scan.plex.token), scan.plex.section))
    if scan.subsonic.url:
        found.append(Subsonic(server(scan.subsonic.url), scan.subsonic.user, _secret(scan.subsonic.password)))
    return found


def _secret(value: Any) -> str:
    return "" if value is None else str(value.get_secret_value())
