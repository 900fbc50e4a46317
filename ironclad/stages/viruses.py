"""Whether a file may be read at all: what a virus scanner says of it, where one is set."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ironclad.errors import BeyondScanner, Infected, ScannerUnavailable
from ironclad.sandbox.clamd import Clamd, Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ironclad.stages.context import StageContext
    from ironclad.worksections import VirusSettings


def scanner(settings: VirusSettings) -> Clamd | None:
    """The scanner of the settings; None where none is set."""
    if settings.socket is None:
        return None
    return Clamd(settings.socket, seconds=settings.seconds, max_bytes=settings.max_bytes)


def demand(context: StageContext) -> Mapping[str, Any]:
    """Facts of the scan for the marker; none without a scanner.

    Raises:
        Infected: the scanner names what it found.
        BeyondScanner: the file is too large for it, and the settings refuse such files.
        ScannerUnavailable: it could not say; worth trying again.
    """
    settings = context.settings.virus
    daemon = scanner(settings)
    if daemon is None:
        return {}
    found = daemon.scan(context.source, check=context.check)
    if found.verdict is Verdict.INFECTED:
        raise Infected(found.detail, signature=found.detail)
    if found.verdict is Verdict.UNSCANNED:
        raise ScannerUnavailable(found.detail)
    if found.verdict is Verdict.BEYOND:
        if settings.beyond == "refuse":
            raise BeyondScanner(found.detail)
        context.log.write(event="not_scanned", reason=found.detail)
    return {"virus_scan": found.verdict.value}
