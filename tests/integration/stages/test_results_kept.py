"""`jobs replay --keep --engine`: two results of a song, in the library and on record, and no server is confused."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from command_line import run_command
from rogue_specs import ROGUES, budget_spec

from ironclad import durable
from ironclad.engines import admission, choice
from ironclad.jobs import lease, query
from ironclad.metadata.read import read_many
from ironclad.stages.runner import run_claim

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ironclad.config import Settings
    from ironclad.db.session import Database
    from ironclad.engines.contract import EngineSpec
    from ironclad.jobs.submit import Job

    Command = Callable[..., Any]


@pytest.fixture
def two_engines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`budget` is installed beside the built-in engine."""
    home = tmp_path / "home"
    home.mkdir()
    for name in ("budget-large", "die"):
        (home / name).write_text("1000000000", encoding="ascii")
    monkeypatch.setenv("HOME", str(home))
    installed, host_settings = choice.installed_engines, admission.host_settings

    class Registry:
        def get(self, name: str) -> EngineSpec:
            return budget_spec() if name == "budget" else installed().get(name)

    monkeypatch.setattr(choice, "installed_engines", Registry)
    monkeypatch.setattr(
        admission, "host_settings", lambda given, pool: replace(host_settings(given, pool), search_path=(ROGUES,))
    )


@pytest.fixture
def command(environment: dict[str, str], settings: Settings) -> Command:
    """`command("verify")` runs it with --json and returns what it says; it must end well."""

    def run(*arguments: object) -> Any:
        done = run_command(environment, *arguments, "--json")
        assert done.exit_code == 0, done.stdout + done.stderr
        return json.loads(done.stdout)

    return run


def attempt(database: Database, settings: Settings) -> None:
    with database.session() as session:
        claim = lease.claim_next(session, "cpu", worker="test", lease_seconds=60)
    assert claim is not None
    assert run_claim(database, settings, claim, worker="test").state == "succeeded"


def published(database: Database, job: Job) -> dict[str, Any]:
    """Engine → the published file's row."""
    with database.session() as session:
        rows = query.detail(session, job.job_uuid).artifacts
    return {
        row.receipt["engine"]: row
        for row in rows
        if row.state == "published" and row.kind == "instrumental" and row.receipt is not None
    }


@pytest.mark.usefixtures("two_engines")
def test_two_results_of_a_song(  # noqa: PLR0917 - fixtures
    database: Database, settings: Settings, queue: Callable[..., Job], command: Command,
    make_song: Callable[..., Path], tmp_path: Path,
) -> None:  # fmt: skip
    job = queue(make_song(tmp_path / "songs" / "01.flac", 1.5))
    attempt(database, settings)
    command("jobs", "replay", job.job_uuid, "--from", "separate", "--engine", "budget", "--keep")
    attempt(database, settings)

    results = published(database, job)
    output = settings.layout.output
    assert {engine: row.path for engine, row in results.items()} == {
        "center": str(output / "Ana/Colours/01 - Blue (Instrumental).flac"),
        "budget": str(output / "Ana/Colours (Instrumentals, budget)/01 - Blue (Instrumental, budget).flac"),
    }
    for row in results.values():
        file = output / row.path
        assert durable.digest(file) == row.blake3
        assert json.loads(file.with_name(f"{file.name}.receipt.json").read_text())["blake3"] == row.blake3
    readings = read_many([output / results[engine].path for engine in ("center", "budget")], check=lambda: None)
    assert [(one.tags.title, one.tags.album) for one in readings] == [
        ("Blue (Instrumental)", "Colours (Instrumentals)"),
        ("Blue (Instrumental, budget)", "Colours (Instrumentals, budget)"),
    ]

    # media servers take them for two tracks of two albums, and nothing is left over
    assert command("library", "lint")["findings"] == []
    assert command("verify")["problems"] == []
    assert command("orphans", "--quiet", "0", "--hash")["orphans"] == []
    # what writes tags and names anew knows each by its own name
    assert command("library", "refile", "--dry-run")["moves"] == []

    # a replay that keeps nothing leaves one result, under the plain name
    command("jobs", "replay", job.job_uuid, "--from", "separate", "--engine", "budget")
    attempt(database, settings)
    [(engine, row)] = published(database, job).items()
    assert (engine, row.path) == ("budget", str(output / "Ana/Colours/01 - Blue (Instrumental).flac"))
    assert [path for path in output.rglob("*.flac") if path.is_file()] == [output / row.path]
    assert command("verify")["problems"] == []
    assert command("orphans", "--quiet", "0", "--hash")["orphans"] == []
