"""A conflict in the library, through the whole pipeline: quarantined, the original kept, nothing published."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from command_line import run_command

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ironclad.config import Settings


def test_what_would_spoil_the_library_is_kept_back(
    environment: dict[str, str], settings: Settings, make_song: Callable[..., Path], tmp_path: Path
) -> None:
    def process(name: str, seed: int, **more: str) -> dict[str, Any]:
        song = make_song(tmp_path / name, 1.5, seed)  # the same title and number, other music
        done = run_command({**environment, **more}, "process", song, "--json")
        [job] = json.loads(done.stdout)["jobs"]
        return dict(job)

    assert process("one.flac", 1)["state"] == "succeeded"
    before = sorted(settings.layout.output.rglob("*"))
    kept = process("two.flac", 2, IRONCLAD_LIBRARY__LINT="quarantine")
    assert (kept["state"], kept["error"]["code"]) == ("quarantined", "E_LIBRARY_CONFLICT")
    assert "doubled-number" in kept["error"]["detail"]
    assert sorted(settings.layout.output.rglob("*")) == before
    folder = settings.layout.error_of(kept["job_uuid"], "E_LIBRARY_CONFLICT")
    assert (folder / "original.flac").read_bytes() == (tmp_path / "two.flac").read_bytes()
    assert json.loads((folder / "error.json").read_bytes())["error"]["code"] == "E_LIBRARY_CONFLICT"
    assert run_command(environment, "jobs", "retry", kept["job_uuid"]).exit_code == 0
