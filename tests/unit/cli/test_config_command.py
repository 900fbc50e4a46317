from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from typer.testing import Result

SECRET = "hunter2"


def test_show_lists_every_setting_and_no_secret(run: Callable[..., Result]) -> None:
    result = run(
        "config", "show", IRONCLAD_DATABASE_URL=f"postgresql://me:{SECRET}@host/db",
        IRONCLAD_PREFECT__API_URL=f"http://me:{SECRET}@host/api",
    )  # fmt: skip
    assert result.exit_code == 0
    assert "ingest.stability_seconds = 5.0" in result.stdout
    assert 'database_url = "**********"' in result.stdout
    assert 'prefect.api_url = "http://me:**********@host/api"' in result.stdout
    assert SECRET not in result.output


def test_show_origin_says_where_each_value_came_from(run: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "my.toml").write_text("[ingest]\npoll_seconds = 7\n", encoding="utf-8")
    result = run("--config", tmp_path / "my.toml", "config", "show", "--origin", IRONCLAD_LOG__LEVEL="DEBUG")
    lines = {line.split()[0]: line for line in result.stdout.splitlines()}
    assert f"file {tmp_path / 'my.toml'}" in lines["ingest.poll_seconds"]
    assert "environment variable IRONCLAD_LOG__LEVEL" in lines["log.level"]
    assert lines["disk.min_free_bytes"].endswith("default")


def test_the_data_dir_option_wins(run: Callable[..., Result], tmp_path: Path) -> None:
    result = run("--data-dir", tmp_path / "other", "config", "show", "--json")
    data = json.loads(result.stdout)
    assert set(data) == {"file", "settings", "origins"}
    assert data["settings"]["data_dir"] == str(tmp_path / "other")
    assert data["origins"]["data_dir"] == "command line"


def test_json_has_no_secret(run: Callable[..., Result]) -> None:
    result = run("config", "show", "--json", IRONCLAD_DATABASE_URL=f"postgresql://me:{SECRET}@host/db")
    assert SECRET not in result.output
    assert json.loads(result.stdout)["settings"]["database_url"] == "**********"


def test_validate_a_good_file(run: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "my.toml").write_text("[ingest]\npoll_seconds = 7\n", encoding="utf-8")
    result = run("--config", tmp_path / "my.toml", "config", "validate")
    assert result.exit_code == 0
    assert str(tmp_path / "my.toml") in result.stdout
    data: dict[str, Any] = json.loads(run("config", "validate", "--json").stdout)
    assert data == {"valid": True, "file": None}


def test_validate_names_all_problems_with_their_origins(run: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "my.toml").write_text("[ingest]\npoll_seconds = -1\nbogus = 2\n", encoding="utf-8")
    result = run("--config", tmp_path / "my.toml", "config", "validate", IRONCLAD_LOG__LEVEL="LOUD")
    assert result.exit_code == 3
    assert "E_CONFIG" in result.stderr
    for part in ("ingest.poll_seconds", "ingest.bogus", "log.level", "IRONCLAD_LOG__LEVEL", "my.toml"):
        assert part in result.stderr


def test_a_settings_file_that_is_not_there(run: Callable[..., Result], tmp_path: Path) -> None:
    result = run("--config", tmp_path / "none.toml", "config", "show", "--json")
    assert result.exit_code == 3
    assert json.loads(result.stderr)["error"]["code"] == "E_CONFIG"


def test_schema_is_a_json_schema_of_all_settings(run: Callable[..., Result]) -> None:
    schema = json.loads(run("config", "schema").stdout)
    assert schema["type"] == "object"
    assert {"ingest", "jobs", "pools"} <= set(schema["properties"])
    assert schema["additionalProperties"] is False


@pytest.mark.parametrize("arguments", [["engines", "list"], ["status"], ["doctor"], ["process", "x.mp3"], ["up"]])
def test_wrong_settings_stop_every_command_with_3(arguments: list[str], run: Callable[..., Result]) -> None:
    result = run(*arguments, IRONCLAD_JOBS__LEASE_SECONDS="never")
    assert result.exit_code == 3
    assert "jobs.lease_seconds" in result.stderr


def test_a_service_with_wrong_settings_tells_its_supervisor_not_to_try_again(run: Callable[..., Result]) -> None:
    result = run("run", "watch", IRONCLAD_JOBS__LEASE_SECONDS="never")
    assert result.exit_code == 78
    assert "jobs.lease_seconds" in result.stderr


@pytest.mark.parametrize("arguments", [["worker"], ["watch", "--pool", "cpu"]])
def test_a_worker_needs_a_pool_and_nothing_else_has_one(arguments: list[str], run: Callable[..., Result]) -> None:
    result = run("run", *arguments)
    assert result.exit_code == 2
    assert "--pool" in result.stderr


def test_what_only_the_users_of_a_setting_would_find_is_a_problem_too(
    run: Callable[..., Result], tmp_path: Path
) -> None:
    file = tmp_path / "my.toml"
    root = tmp_path / "data" / "output"
    file.write_text(f'[output]\ntemplate = "{{{{ nonsense }}}}"\n[[ingest.roots]]\npath = "{root}"\n', encoding="utf-8")
    result = run("--config", file, "--data-dir", tmp_path / "data", "config", "validate")
    assert result.exit_code == 3
    template, place = (line for line in result.stderr.splitlines() if line.startswith("  - "))
    assert "output.template" in template
    assert "nonsense" in template
    assert str(root) in place
    assert all(f"file {file}" in line for line in (template, place))
