from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING

from ironclad.cli.commands import orphans, prune
from ironclad.jobs.ids import uuid7
from ironclad.jobs.states import JobState

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from typer.testing import Result

    from ironclad.config import Settings

    Run = Callable[..., Result]


def test_orphans_are_listed_and_moved(run: Run, settings: Settings) -> None:
    assert "Every file has its job" in run("orphans").stdout
    folder = settings.layout.archive_of(uuid7())
    folder.mkdir()
    assert "younger than 60 minutes was not looked at" in run("orphans").stdout
    listed = run("orphans", "--quiet", "0", "--json")
    data = json.loads(listed.stdout)
    assert set(data) == set(orphans.JSON["orphans"])
    assert (listed.exit_code, data["orphans"][0]["kind"], data["orphans"][0]["moved"]) == (1, "no-job", None)
    fixed = run("orphans", "--quiet", "0", "--fix")
    assert fixed.exit_code == 0, fixed.stderr
    assert "Moved to" in fixed.stdout
    assert not folder.exists()
    after = run("orphans", "--quiet", "0")
    assert (after.exit_code, "younger" in after.stdout) == (0, False)


def test_prune_says_first_what_it_would_do(
    run: Run, put: Callable[..., UUID], finish: Callable[..., None], settings: Settings
) -> None:
    job = put("a")
    finish(job, JobState.SUCCEEDED)
    folder = settings.layout.work_of(job)
    folder.mkdir()
    old = time.time() - 30 * 86400
    os.utime(folder, (old, old))
    dry = json.loads(run("prune", "--dry-run", "--json").stdout)
    assert set(dry) == set(prune.JSON["prune"])
    assert [one["path"] for one in dry["pruned"]] == [str(folder)]
    assert folder.exists()
    assert "deleted" in run("prune").stdout
    assert not folder.exists()
    assert "0 things" in run("prune").stdout
