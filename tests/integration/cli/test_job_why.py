"""`ironclad jobs why` and `ironclad jobs bundle`."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import pytest
import roles
import sqlalchemy as sa
from pydantic import BaseModel, SecretStr

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


def secret_settings(model: type[BaseModel], made: list[str]) -> dict[str, Any]:
    """A settings file in which every secret that there is has a value of its own; the values go into `made`."""
    found: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        kinds = [field.annotation, *get_args(field.annotation)]
        below = next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None)
        if SecretStr in kinds:
            made.append(f"sec{len(made)}ret31415926")
            found[name] = f"https://me:{made[-1]}@host/x" if name.endswith("url") else made[-1]
        elif below is not None:
            inner = secret_settings(below, made)
            if inner:
                found[name] = {"one": inner} if "dict" in str(field.annotation) else inner
    return found


def as_toml(data: dict[str, Any], path: tuple[str, ...] = ()) -> str:
    lines = [f"[{'.'.join(path)}]"] if path else []
    lines += [f"{name} = {json.dumps(value)}" for name, value in data.items() if not isinstance(value, dict)]
    lines += [as_toml(value, (*path, name)) for name, value in data.items() if isinstance(value, dict)]
    return "\n".join(lines) + "\n"


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


def test_a_bundle_is_made_on_a_disk_that_does_not_say_how_full_it_is(
    run: Run, put: Put, finish: Finish, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = put("Blue Moon")
    finish(job, JobState.FAILED, EngineFailed("boom"))
    out = tmp_path / "report.zip"

    def failing(_path: Path) -> None:
        raise OSError(errno.EIO, "the disk is away")

    monkeypatch.setattr(os, "statvfs", failing)
    result = run("jobs", "bundle", job, "-o", out)
    assert result.exit_code == 0, result.stderr
    with zipfile.ZipFile(out) as archive:
        assert "the disk is away" in json.loads(archive.read("services.json"))["free_bytes"]


@pytest.fixture
def known_secrets() -> tuple[dict[str, Any], list[str]]:
    """Settings with all secrets that there are, and these."""
    made: list[str] = []
    return secret_settings(Model, made), made


@pytest.fixture
def knocker(known_secrets: tuple[dict[str, Any], list[str]], environment: dict[str, str]) -> Iterator[str]:
    """The URL of the test's database for a role whose password is one of the secrets."""
    url = sa.make_url(environment["IRONCLAD_DATABASE_URL"])
    password = known_secrets[1][0]
    with roles.role(environment["IRONCLAD_DATABASE_URL"], password, member_of=url.username) as name:
        yield url.set(username=name, password=password).render_as_string(hide_password=False)


def test_a_bundle_holds_no_secret(  # noqa: PLR0917 - fixtures
    run: Run,
    put: Put,
    finish: Finish,
    settings: Settings,
    known_secrets: tuple[dict[str, Any], list[str]],
    knocker: str,
    tmp_path: Path,
) -> None:
    data, secrets = known_secrets
    assert {"database_url", "notify", "library", "metadata", "prefect"} <= set(data)
    assert len(secrets) >= 8
    data["database_url"] = knocker
    file = tmp_path / "ironclad.toml"
    file.write_text(as_toml(data))
    channel = "T0AB12CD34EF"  # as services have them in the path of a URL
    file.write_text(file.read_text().replace('@host/x"', f'@host/{channel}"'))
    job, other = put("Blue", user="ana"), put("Red", user="bobby")
    tokens = [ENVIRONMENT["MY_API_TOKEN"], "icl_abcdefgh12345678", "hunter2hunter2", "abcdef0123456789", channel]
    lines = [
        *secrets, *tokens[:2], f"postgresql://me:{tokens[2]}@host/db", f"Authorization: Bearer {tokens[3]}",
        f"POST https://hooks.example.org/{channel}", "bobby",
    ]  # fmt: skip
    log = "".join(
        json.dumps({"job_uuid": str(job), "text": line, "home": "/home/ana-maria/x"}) + "\n" for line in lines
    )
    settings.layout.job_log(job).write_text(log)
    (settings.layout.logs / "api.jsonl").write_text(log)
    finish(job, JobState.FAILED, EngineFailed(f"at /home/ana-maria/music with {secrets[1]} near bobby {other}"))
    out = tmp_path / "report.zip"
    result = run(
        "--config", file, "jobs", "bundle", job, "-o", out, **ENVIRONMENT, IRONCLAD_DATABASE_URL=None,
        IRONCLAD_CONFIG=str(file),
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    forbidden = [*secrets, *tokens, "/home/ana-maria", "bobby", str(settings.layout.root)]
    with zipfile.ZipFile(out) as archive:
        shown = json.loads(archive.read("settings.json"))
        assert shown["database_url"] == {"value": "***", "origin": str(shown["database_url"]["origin"])}
        for name in archive.namelist():
            content = archive.read(name).decode()
            assert not name.endswith(".json") or json.loads(content) is not ...  # still what it says it is
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
