"""`ironclad jobs why` and `ironclad jobs bundle`."""

from __future__ import annotations

import hashlib
import json
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import BaseModel

from ironclad.cli.commands import job_why
from ironclad.cli.text import short_id
from ironclad.config import Settings as Model
from ironclad.errors import EngineFailed, NotAudio
from ironclad.jobs.states import JobState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from uuid import UUID

    from typer.testing import Result

    from ironclad.config import Settings

    Run = Callable[..., Result]
    Put = Callable[..., UUID]
    Finish = Callable[..., None]

ENVIRONMENT = {"MY_API_TOKEN": "environment-token-16180", "HOME": "/home/ana-maria"}


def secret_variables(model: Any, prefix: str = "IRONCLAD") -> Iterator[str]:
    """The environment variable of every secret that the settings have, the database's URL aside."""
    for name, field in model.model_fields.items():
        variable = f"{prefix}__{name}".upper() if prefix != "IRONCLAD" else f"IRONCLAD_{name}".upper()
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from secret_variables(field.annotation, variable)
        elif "SecretStr" in str(field.annotation) and name != "database_url":
            yield variable


@pytest.fixture
def secret_settings() -> dict[str, str]:
    """A value of its own for each of them."""
    return {name: f"secret-{number}-31415926" for number, name in enumerate(secret_variables(Model))}


def test_why_says_what_happened_and_what_to_do(run: Run, put: Put, finish: Finish) -> None:
    job = put("Blue Moon")
    finish(job, JobState.FAILED, NotAudio("it begins with <html>"))
    shown = run("jobs", "why", short_id(job)).stdout
    for expected in ("failed for good", "holds no audio", "<html>", "What was tried", "What to do", NotAudio.hint):
        assert expected in shown
    data = json.loads(run("jobs", "why", job, "--json").stdout)
    assert set(data) == set(job_why.JSON["jobs why"])
    assert data["code"] == "E_NOT_AUDIO"


def test_a_bundle_holds_what_a_report_needs(
    run: Run, put: Put, finish: Finish, settings: Settings, tmp_path: Path
) -> None:
    job = put("Blue Moon", user="ana")
    settings.layout.job_log(job).write_text(json.dumps({"event": "x", "job_uuid": str(job)}) + "\n")
    (settings.layout.logs / "worker.jsonl").write_text(f'{{"job_uuid": "{job}"}}\n{{"job_uuid": "other"}}\n')
    finish(job, JobState.FAILED, EngineFailed("boom"))
    out = tmp_path / "report.zip"
    result = run("jobs", "bundle", job, "-o", out, "--json")
    assert result.exit_code == 0, result.stderr
    data = json.loads(result.stdout)
    assert set(data) == set(job_why.JSON["jobs bundle"])
    with zipfile.ZipFile(out) as archive:
        manifest = json.loads(archive.read("manifest.json"))
        assert manifest == data["files"]
        for name, told in manifest.items():
            content = archive.read(name)
            assert (len(content), hashlib.sha256(content).hexdigest()) == (told["bytes"], told["sha256"])
        assert {
            "why.json", "job.json", "attempts.json", "stages.json", "events.json", "artifacts.json", "source.json",
            "versions.json", "settings.json", "services.json", "logs/job.jsonl", "logs/worker.jsonl",
        } <= set(manifest)  # fmt: skip
        assert archive.read("logs/worker.jsonl").count(b"\n") == 1
        assert not [name for name in manifest if name.startswith("audio/")]
    assert run("jobs", "bundle", job, "-o", out).exit_code != 0  # it is there already


def test_a_bundle_holds_no_secret(  # noqa: PLR0917 - fixtures
    run: Run, put: Put, finish: Finish, settings: Settings, secret_settings: dict[str, str], tmp_path: Path
) -> None:
    assert len(secret_settings) >= 3
    job, other = put("Blue", user="ana"), put("Red", user="bobby")
    secrets = [*secret_settings.values(), ENVIRONMENT["MY_API_TOKEN"], "icl_abcdefgh12345678", "hunter2hunter2"]
    lines = [*secrets[:-1], f"postgresql://me:{secrets[-1]}@host/db", "Authorization: Bearer abcdef0123456789", "bobby"]
    log = "".join(
        json.dumps({"job_uuid": str(job), "text": line, "home": "/home/ana-maria/x"}) + "\n" for line in lines
    )
    settings.layout.job_log(job).write_text(log)
    (settings.layout.logs / "api.jsonl").write_text(log)
    finish(job, JobState.FAILED, EngineFailed(f"at /home/ana-maria/music with {secrets[0]} near bobby {other}"))
    out = tmp_path / "report.zip"
    result = run("jobs", "bundle", job, "-o", out, **secret_settings, **ENVIRONMENT)
    assert result.exit_code == 0, result.stderr
    forbidden = [*secrets, "abcdef0123456789", "/home/ana-maria", "bobby", str(settings.layout.root)]
    with zipfile.ZipFile(out) as archive:
        for name in archive.namelist():
            content = archive.read(name).decode()
            assert not [word for word in forbidden if word in content], name
        assert "user-1" in archive.read("logs/job.jsonl").decode()  # it was there to be taken out


def test_audio_only_when_asked_for(run: Run, put: Put, tmp_path: Path) -> None:
    job = put("Blue", content=b"the song")
    out = tmp_path / "with.zip"
    assert run("jobs", "bundle", job, "-o", out, "--with-audio").exit_code != 0  # nobody says yes
    assert not out.exists()
    assert run("jobs", "bundle", job, "-o", out, "--with-audio", "--yes").exit_code == 0
    with zipfile.ZipFile(out) as archive:
        assert archive.read("audio/original.mp3") == b"the song"
    assert Path(out).stat().st_size > 0
