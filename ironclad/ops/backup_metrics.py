"""How old dumps and drills are, for the dispatcher's /metrics: read from the manifests in `backups/` at each scrape."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ironclad.errors import IroncladError
from ironclad.ops import backup

if TYPE_CHECKING:
    from ironclad.config import Settings
    from ironclad.ops.metrics import Metrics


class BackupReader:
    """Keeps the metrics `ironclad_backup_…` current.

    Args:
        settings: where the dumps are.
        metrics: of the dispatcher.
    """

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._settings = settings
        self._metrics = metrics
        metrics.on_scrape(self.refresh)

    def refresh(self) -> None:
        """Read the manifests; a folder that cannot be read leaves the metrics as they are, which ages them."""
        try:
            known = [manifest for _, manifest in backup.dumps(self._settings) if manifest is not None]
        except IroncladError:
            return
        drills = sorted((one.drill for one in known if one.drill is not None), key=lambda drill: drill.at)
        good = [drill for drill in drills if not drill.problem]
        values = {
            "ironclad_backup_timestamp_seconds": known[0].created_at.timestamp() if known else 0.0,
            "ironclad_backup_bytes": known[0].bytes if known else 0,
            "ironclad_backup_drill_timestamp_seconds": good[-1].at.timestamp() if good else 0.0,
            "ironclad_backup_drill_ok": 0 if drills and drills[-1].problem else 1,
        }
        for name, value in values.items():
            self._metrics.gauge(name).set(value)
