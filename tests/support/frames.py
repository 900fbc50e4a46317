"""Kept frames of the cockpit: text for comparing, SVG for the documents.

`IRONCLAD_TEST_UPDATE_FRAMES=1 pytest tests/tui/test_frames.py` writes them anew; read the difference before it is
committed. (pytest-textual-snapshot needs a pytest older than ours; docs/adr/0012 says more.)
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from cockpit import Cockpit, cockpit
from staged import Staged

from ironclad_tui.screens.base import SCREENS

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "tests" / "tui" / "snapshots"
PICTURES = ROOT / "docs" / "img" / "tui"
KINDS = ("empty", "busy", "failing", "away")
SIZES = ((120, 36), (80, 24))
UPDATE = os.environ.get("IRONCLAD_TEST_UPDATE_FRAMES") == "1"

MORE: Mapping[str, tuple[str, ...]] = {
    "job-why": ("2", "j", "j", "enter"),
    "job-running": ("escape", "2", "g", "enter"),
    "job-log": ("L",),
    "job-events": ("e",),
    "job-files": ("escape", "j", "j", "j", "enter", "f"),
    "job-receipt": ("i",),
    "job-tags": ("a",),
    "job-sound": ("s",),
    "filter-error": ("escape", "slash", *"stat", "colon", *"failed"),
    "selected": ("escape", "g", "space", "space", "space"),
    "confirm": ("c",),
    "sorted": ("escape", "a", "s", "s", "s"),
    "views": ("v",),
    "columns": ("escape", "C"),
    "replay": ("escape", "R"),
    "help": ("escape", "question_mark"),
    "jump": ("escape", "apostrophe"),
    "job-bundle": ("escape", "enter", "b"),
    "slots": ("escape", "escape", "4", "n"),
    "drain": ("escape", "D"),
    "engine-checked": ("escape", "6", "c"),
    "library-linted": ("7", "L"),
    "prunable": ("8", "d"),
    "orphans": ("o",),
}
"""Frames beyond the screens, and the keys from one to the next."""


def take(kind: str, size: tuple[int, int]) -> dict[str, str]:
    """Every frame of one made-up installation at one size, by name."""

    async def visit(driver: Cockpit) -> dict[str, str]:
        frames = {}
        for key, name, _ in SCREENS:
            await driver.press(key)
            frames[name] = driver.frame()
        if kind == "busy":
            for name, keys in MORE.items():
                await driver.press(*keys)
                frames[name] = driver.frame()
        return frames

    found: dict[str, str] = cockpit(Staged(kind), visit, size=size)
    return found


def names(kind: str) -> list[str]:
    """The frames that `take` gives."""
    return [name for _, name, _ in SCREENS] + (list(MORE) if kind == "busy" else [])


def path_of(kind: str, size: tuple[int, int], name: str) -> Path:
    """Where a frame is kept."""
    return FOLDER / f"{size[0]}x{size[1]}" / f"{kind}-{name}.txt"


def pictures() -> dict[str, str]:
    """An SVG of each screen, for the documents."""

    async def visit(driver: Cockpit) -> dict[str, str]:
        found = {}
        for key, name, title in SCREENS:
            await driver.press(key)
            found[name] = picture(driver, title)
        await driver.press("2", "j", "j", "enter")
        found["job"] = picture(driver, "Job")
        await driver.press("escape", "question_mark")
        found["help"] = picture(driver, "Help")
        return found

    drawn: dict[str, str] = cockpit(Staged("failing"), visit, size=(100, 28))
    return drawn


def picture(driver: Cockpit, title: str) -> str:
    """The screen as SVG, without fonts from the network and the frame of a window."""
    svg = driver.app.export_screenshot(title=f"ironclad tui: {title}", simplify=True)
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<!-- .*? -->\s*", "", svg)
    return re.sub(r"[ \t]*\n\s*", "\n", svg).strip() + "\n"
