"""After publishing, media servers are told; whatever goes wrong with that is recorded and costs the job nothing."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING, Any, Final

from ironclad import log
from ironclad.errors import IroncladError
from ironclad.metadata.shared import Outage
from ironclad.plugins.manager import PluginManager, selection

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from ironclad.library.scan import ScanTrigger
    from ironclad.stages.context import StageContext

HOOK: Final = "ironclad_scan_triggers"
_STEP_SECONDS: Final = 0.1


def announce(
    context: StageContext, folders: Sequence[Path], plugins: Callable[[], PluginManager] | None = None
) -> list[dict[str, Any]]:
    """Trigger a scan of these folders on every server; returns what became of each (name, error or null).

    All triggers run at the same time and have `library.scan.timeout_seconds` together. A server that failed is left
    alone for `library.scan.outage_seconds`. Raises nothing but what the context's `check` raises.
    """
    scan = context.settings.library.scan
    if not scan.enabled or not folders:
        return []
    manager = PluginManager(selection()) if plugins is None else plugins()
    manager.load_all()
    triggers = [
        trigger
        for _, answer in manager.collect(HOOK, settings=context.settings)
        for trigger in (answer if isinstance(answer, list | tuple) else [answer])
    ]
    became = dict(_run(context, triggers, sorted(set(folders)), scan.timeout_seconds))
    for name, error in became.items():
        if error is not None:
            log.get().warning("scan_trigger_failed", server=name, error=error)
            context.log.write(event="scan_trigger_failed", server=name, error=error)
    return [{"name": name, "error": error} for name, error in became.items()]


def _run(
    context: StageContext, triggers: Iterable[ScanTrigger], folders: Sequence[Path], seconds: float
) -> Iterable[tuple[str, str | None]]:
    threads: list[tuple[str, threading.Thread]] = []
    answers: dict[str, str | None] = {}
    for trigger in triggers:
        name = str(getattr(trigger, "name", type(trigger).__name__))
        if _resting(context, name):
            yield name, "it failed lately and is left alone"
            continue
        thread = threading.Thread(target=_one, args=(trigger, name, folders, answers), name=f"scan-{name}", daemon=True)
        thread.start()
        threads.append((name, thread))
    deadline = time.monotonic() + seconds
    for name, thread in threads:
        while thread.is_alive() and (left := deadline - time.monotonic()) > 0:
            context.check()
            thread.join(min(left, _STEP_SECONDS))
        error = answers.get(name, f"no answer within {seconds:g} s")
        if error is not None:
            with contextlib.suppress(IroncladError):
                Outage(context.database, f"scan:{name}").begin(context.settings.library.scan.outage_seconds)
        yield name, error


def _one(trigger: ScanTrigger, name: str, folders: Sequence[Path], answers: dict[str, str | None]) -> None:
    try:
        trigger.scan(folders)
    except Exception as exc:  # noqa: BLE001 - whatever a stranger's trigger raises is why it failed
        answers[name] = str(exc) or type(exc).__name__
    else:
        answers[name] = None


def _resting(context: StageContext, name: str) -> bool:
    try:
        return Outage(context.database, f"scan:{name}").lasts()
    except IroncladError:
        return False
