"""What an operator chose: theme, columns, saved views. A file of his own; without it everything has a default."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import platformdirs

from ironclad import durable

if TYPE_CHECKING:
    from pathlib import Path

BUILT_IN_VIEWS = {
    "all": "",
    "running": "state:running",
    "waiting": "state:queued,waiting_retry,received",
    "failed": "state:failed,quarantined",
    "failed today": "state:failed,quarantined since:1d",
    "held": "held:yes",
    "skipped": "state:skipped",
}


def default_path() -> Path:
    """`tui.json` in the user's state folder."""
    return platformdirs.user_state_path("ironclad") / "tui.json"


@dataclass(slots=True)
class Prefs:
    """What was chosen. `path` is where it is kept; None keeps nothing."""

    path: Path | None = None
    theme: str = ""
    columns: tuple[str, ...] = ()
    views: dict[str, str] = field(default_factory=dict)

    @classmethod
    def load(cls, path: Path | None) -> Prefs:
        """Read the file; what is missing or broken is as if it had never been chosen."""
        if path is None:
            return cls()
        try:
            data: Any = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return cls(path)
        if not isinstance(data, dict):
            return cls(path)
        columns, views = data.get("columns"), data.get("views")
        return cls(
            path,
            str(data.get("theme", "")),
            tuple(map(str, columns)) if isinstance(columns, list) else (),
            {str(name): str(text) for name, text in views.items()} if isinstance(views, dict) else {},
        )

    def save(self) -> None:
        """Write the file. Raises OSError."""
        if self.path is None:
            return
        data = {"theme": self.theme, "columns": list(self.columns), "views": self.views}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        durable.write_atomic(self.path, json.dumps(data, indent=2).encode())
