"""Settings: who wins, where a value came from, and every problem at once."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import BaseModel

from ironclad import config
from ironclad.config import Settings, find_file, load, load_with_origins
from ironclad.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No settings of the machine or the shell that runs the tests."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    for name in [name for name in os.environ if name.startswith("IRONCLAD_")]:
        monkeypatch.delenv(name)


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def problems(caught: pytest.ExceptionInfo[ConfigError]) -> list[str]:
    lines = caught.value.detail.strip().removeprefix("- ").split("\n  - ")
    assert caught.value.context["problems"] == len(lines)
    return lines


def leaves(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, field in model.model_fields.items():
        kind = field.annotation
        yield prefix + name, field
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from leaves(kind, f"{prefix}{name}.")


@pytest.mark.parametrize(("path", "field"), list(leaves(Settings)))
def test_every_setting_is_described(path: str, field: Any) -> None:
    assert field.description, path
    assert field.description.endswith("."), path


def test_defaults_need_nothing() -> None:
    loaded = load_with_origins(environ={})
    assert loaded.settings.jobs.lease_seconds == 30
    assert loaded.file is None
    assert loaded.origin("jobs.lease_seconds") == "default"
    assert loaded.settings.watch_roots[0].path == loaded.settings.layout.input


def test_each_source_wins_over_the_one_before(tmp_path: Path) -> None:
    file = write(
        tmp_path / "ironclad.toml",
        "[jobs]\nlease_seconds = 11\nmax_failures = 11\nbackoff_seconds = 11\nbackoff_max_seconds = 11\n",
    )
    secrets = tmp_path / "secrets"
    write(secrets / "jobs__backoff_seconds", "33\n")
    write(secrets / "jobs__backoff_max_seconds", "33")
    environ = {
        "IRONCLAD_JOBS__MAX_FAILURES": "22", "IRONCLAD_JOBS__BACKOFF_SECONDS": "22",
        "IRONCLAD_JOBS__BACKOFF_MAX_SECONDS": "22", "IRONCLAD_SECRETS_DIR": str(secrets),
    }  # fmt: skip
    loaded = load_with_origins({"jobs": {"backoff_max_seconds": 44}}, environ)
    jobs = loaded.settings.jobs
    assert (jobs.lease_seconds, jobs.max_failures, jobs.backoff_seconds, jobs.backoff_max_seconds) == (11, 22, 33, 44)
    assert jobs.keep_work is False
    assert loaded.file == Path("ironclad.toml")
    assert {
        name: origin for name in type(jobs).model_fields if (origin := loaded.origin(f"jobs.{name}")) != "default"
    } == {
        "lease_seconds": "file ironclad.toml",
        "max_failures": "environment variable IRONCLAD_JOBS__MAX_FAILURES",
        "backoff_seconds": f"secrets folder {secrets}",
        "backoff_max_seconds": "command line",
    }
    assert file.exists()


def test_the_environment_given_is_the_only_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IRONCLAD_JOBS__LEASE_SECONDS", "7")
    assert load(environ={}).jobs.lease_seconds == 30
    assert load().jobs.lease_seconds == 7


def test_every_problem_is_told_at_once_with_its_origin(tmp_path: Path) -> None:
    write(tmp_path / "ironclad.toml", "[jobs]\nlease_seconds = -1\nlease_secnods = 3\n[ghost]\nx = 1\n")
    secrets = tmp_path / "secrets"
    write(secrets / "prefect__port", "99999999")
    (secrets / "log__level").write_bytes(b"\xff\xfe")
    environ = {
        "IRONCLAD_LOG__FORMAT": "xml", "IRONCLAD_NONSENSE": "1", "IRONCLAD_JOBS__MAX_FAILURES": "many",
        "IRONCLAD_POOLS": "{not json", "IRONCLAD_SECRETS_DIR": str(secrets), "IRONCLAD_DISK__MIN_FREE_BITES": "1",
    }  # fmt: skip
    with pytest.raises(ConfigError) as caught:
        load({"services": {"base_port": "http"}}, environ)
    found = sorted(problems(caught))
    expected = [
        ("IRONCLAD_NONSENSE: no such setting", "environment variable IRONCLAD_NONSENSE"),
        ("IRONCLAD_POOLS: not valid JSON", "environment variable IRONCLAD_POOLS"),
        ("disk.min_free_bites: no such setting", "environment variable IRONCLAD_DISK__MIN_FREE_BITES"),
        ("ghost: no such setting", "file ironclad.toml"),
        ("jobs.lease_secnods: no such setting", "file ironclad.toml"),
        ("jobs.lease_seconds: Input should be greater than 0", "file ironclad.toml"),
        ("jobs.max_failures: Input should be a valid integer", "environment variable IRONCLAD_JOBS__MAX_FAILURES"),
        ("log.format: Input should be 'auto', 'json' or 'human'", "environment variable IRONCLAD_LOG__FORMAT"),
        ("log.level: not UTF-8", f"secrets folder {secrets}"),
        ("prefect.port: Input should be less than or equal to 65535", f"secrets folder {secrets}"),
        ("services.base_port: Input should be a valid integer", "command line"),
    ]
    assert len(found) == len(expected)
    for line, (begin, end) in zip(found, expected, strict=True):
        assert line.startswith(begin)
        assert line.endswith(f"({end})")


def test_a_broken_file_does_not_hide_other_problems(tmp_path: Path) -> None:
    write(tmp_path / "ironclad.toml", "[jobs\n")
    with pytest.raises(ConfigError) as caught:
        load(environ={"IRONCLAD_LOG__LEVEL": "LOUD"})
    first, second = problems(caught)
    assert first.startswith("file ironclad.toml: ")
    assert "line 1" in first
    assert second.startswith("log.level: ")


def test_a_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "ironclad.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match=r"file ironclad\.toml"):
        load(environ={})


def test_lists_tables_and_pools(tmp_path: Path) -> None:
    write(
        tmp_path / "ironclad.toml",
        '[[ingest.roots]]\npath = "/music"\nmode = "copy"\n[pools.cpu]\nslots = 3\n[pools.gpu]\nslots = 1\n'
        '[engine.parameters]\nwidth = 0.5\n[output]\nstems = ["vocals", "drums"]\n',
    )
    environ = {"IRONCLAD_POOLS__CPU__SLOTS": "5", "IRONCLAD_ENGINE__PARAMETERS": '{"fast": true}'}
    loaded = load_with_origins(environ=environ)
    settings = loaded.settings
    assert {name: pool.slots for name, pool in settings.pools.items()} == {"cpu": 5, "gpu": 1}
    assert [(root.path, root.mode) for root in settings.watch_roots] == [(Path("/music"), "copy")]
    assert settings.engine.parameters == {"width": 0.5, "fast": True}
    assert settings.output.stems == ("vocals", "drums")
    assert loaded.origin("ingest.roots.0.path") == "file ironclad.toml"
    assert loaded.origin("pools.cpu.slots") == "environment variable IRONCLAD_POOLS__CPU__SLOTS"
    assert loaded.origin("pools.gpu.slots") == "file ironclad.toml"


def test_the_test_suites_and_the_loaders_own_variables_are_no_settings() -> None:
    load(environ={"IRONCLAD_TEST_DATABASE_URL": "x", "IRONCLAD_LOAD_PLUGINS": "0", "OTHER": "1", "IRONCLAD_CONFIG": ""})


# --- which file ------------------------------------------------------------------------------------------------------


def test_a_named_file_must_be_there(tmp_path: Path) -> None:
    for missing in (tmp_path / "none.toml", tmp_path):
        with pytest.raises(ConfigError, match=f"IRONCLAD_CONFIG names {missing}"):
            load(environ={"IRONCLAD_CONFIG": str(missing)})


def test_the_first_file_that_exists_is_read(tmp_path: Path) -> None:
    assert find_file({}) is None
    user = write(tmp_path / "config" / "ironclad" / "ironclad.toml", "")
    assert find_file({}) == user
    write(tmp_path / "ironclad.toml", "")
    assert find_file({}) == Path("ironclad.toml")
    named = write(tmp_path / "named.toml", "")
    assert find_file({"IRONCLAD_CONFIG": str(named)}) == named


def test_a_file_that_may_not_be_looked_at_is_not_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(_path: Path) -> bool:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "is_file", forbidden)
    with pytest.raises(ConfigError, match="cannot be looked at"):
        find_file({})


# --- secrets ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["database_url", "DATABASE_URL", "IRONCLAD_DATABASE_URL"])
def test_a_secret_is_a_file_named_like_its_setting(tmp_path: Path, name: str) -> None:
    write(tmp_path / "secrets" / name, "postgresql://u:hunter2@h/n\n")
    (tmp_path / "secrets" / "..data").mkdir()
    write(tmp_path / "secrets" / "somebody_elses", "x")
    settings = load(environ={"IRONCLAD_SECRETS_DIR": str(tmp_path / "secrets")})
    assert settings.database_url is not None
    assert settings.database_url.get_secret_value() == "postgresql://u:hunter2@h/n"


def test_a_missing_secrets_folder_is_a_problem(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not a folder"):
        load(environ={"IRONCLAD_SECRETS_DIR": str(tmp_path / "none")})


def test_secrets_that_cannot_be_listed_are_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(_path: Path) -> Any:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", forbidden)
    with pytest.raises(ConfigError, match="Permission denied"):
        load(environ={"IRONCLAD_SECRETS_DIR": str(tmp_path)})


def test_two_secrets_that_contradict_each_other_are_a_problem(tmp_path: Path) -> None:
    write(tmp_path / "jobs", "text")
    write(tmp_path / "log__level", "DEBUG")
    with pytest.raises(ConfigError) as caught:
        load(environ={"IRONCLAD_SECRETS_DIR": str(tmp_path)})
    (line,) = problems(caught)
    assert line.startswith("jobs: ")


@pytest.mark.parametrize("url", ["mysql://u:hunter2@h/n", "hunter2", "file:///hunter2"])
def test_another_database_is_refused_without_showing_the_secret(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(environ={"IRONCLAD_DATABASE_URL": url})
    assert "database_url: " in str(caught.value)
    assert "postgresql://" in str(caught.value)
    assert "hunter2" not in f"{caught.value} {caught.value.to_dict()}"


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_a_secret_is_not_printed(scheme: str) -> None:
    settings = load(environ={"IRONCLAD_DATABASE_URL": f"{scheme}://u:hunter2@h/n"})
    assert "hunter2" not in f"{settings!r} {settings} {settings.model_dump_json()}"


def test_settings_do_not_change_under_way() -> None:
    settings = load(environ={})
    with pytest.raises(ValueError, match="frozen"):
        settings.jobs.lease_seconds = 5
    with pytest.raises(ValueError, match="frozen"):
        settings.data_dir = Path("/")


def test_the_data_folder_is_absolute_and_home_is_known(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", "/home/ana")
    assert load({"data_dir": "~/music"}, {}).layout.root == Path("/home/ana/music")
    assert load({"data_dir": "here"}, {}).layout.root == tmp_path / "here"
    assert config.default_data_dir().name == "ironclad"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_the_api_listens_on_loopback_without_further_ado(host: str) -> None:
    assert load({"api": {"host": host}}, environ={}).api.allowed_hosts == ()


@pytest.mark.parametrize("host", [".".join("0000"), "::", "192.168.1.5", "music.example.org"])
def test_the_api_listens_elsewhere_only_if_its_names_are_given(host: str) -> None:
    with pytest.raises(ConfigError, match="more than loopback"):
        load({"api": {"host": host}}, environ={})
    assert load({"api": {"host": host, "allowed_hosts": ["music.example.org"]}}, environ={}).api.host == host


def test_what_our_own_rules_say_is_told_without_the_validators_words() -> None:
    with pytest.raises(ConfigError) as caught:
        load({"notify": {"timezone": "Mars/Olympus"}}, {})
    (line,) = problems(caught)
    assert line == "notify: timezone 'Mars/Olympus' is not known (command line)"
