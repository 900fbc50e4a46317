from __future__ import annotations

from typing import TYPE_CHECKING

from ironclad.config import load

if TYPE_CHECKING:
    import pytest


def test_settings_come_from_the_environment_that_is_given_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IRONCLAD_DATABASE_URL", "postgresql://somebody@else/db")
    monkeypatch.setenv("IRONCLAD_INGEST__POLL_SECONDS", "77")
    settings = load(environ={"IRONCLAD_INGEST__RESCAN_SECONDS": "9"})
    assert settings.database_url is None
    assert settings.ingest.poll_seconds != 77
    assert settings.ingest.rescan_seconds == 9
