"""What a plugin can implement: one function a hook, one line each.

A plugin is a module named in the entry-point group `ironclad`; it states `IRONCLAD_API = 1` and marks its functions
with `@hookimpl`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from ironclad.config import Settings
    from ironclad.engines.contract import EngineSpec
    from ironclad.library.scan import ScanTrigger
    from ironclad.notify.contract import NotifierKind

GROUP = "ironclad"
"""Entry-point group, and the project name of the hook markers."""

API_VERSION = 1
"""Version of these hooks and of what they pass; a plugin states the one it was written for as `IRONCLAD_API`."""

hookspec = pluggy.HookspecMarker(GROUP)
hookimpl = pluggy.HookimplMarker(GROUP)


@hookspec
def ironclad_engines() -> list[EngineSpec]:  # type: ignore[empty-body]  # a hook specification has no body
    """Return the separation engines that this plugin brings."""


@hookspec
def ironclad_scan_triggers(settings: Settings) -> list[ScanTrigger]:  # type: ignore[empty-body]  # likewise
    """Return what tells media servers of new files (each has a `name` and `scan(folders)`); asked after publishing."""


@hookspec
def ironclad_notifiers() -> list[NotifierKind]:  # type: ignore[empty-body]  # likewise
    """Return kinds of notifiers (each has a `name` and `open(channel)`): what `notify.channels.NAME.type` can be."""
