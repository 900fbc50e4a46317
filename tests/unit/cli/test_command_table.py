"""The command line as a whole: every command is listed once, documented, and loads."""

from __future__ import annotations

import inspect
import json
from typing import TYPE_CHECKING, Any

import pytest

import ironclad
from ironclad.cli.main import COMMANDS, Entry
from ironclad.db import schema

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from typer.testing import Result


def leaves(command: Any, path: str) -> Iterator[tuple[str, Any]]:
    children = getattr(command, "commands", {})
    if not children:
        yield path, command
    for name, child in children.items():
        yield from leaves(child, f"{path} {name}")


ALL = [leaf for entry in COMMANDS for leaf in leaves(entry.load(), entry.name)]


@pytest.mark.parametrize("entry", COMMANDS, ids=lambda entry: entry.name)
def test_the_table_says_what_the_command_itself_says(entry: Entry) -> None:
    command = entry.load()
    assert inspect.cleandoc(command.help).splitlines()[0] == entry.help
    assert command.name == entry.name


def test_names_are_unique() -> None:
    assert len({entry.name for entry in COMMANDS}) == len(COMMANDS)


@pytest.mark.parametrize(("path", "command"), ALL, ids=[path for path, _ in ALL])
def test_every_command_and_option_is_explained(path: str, command: Any) -> None:
    assert command.help
    for parameter in command.params:
        assert parameter.help, f"{path} {parameter.name}"
        assert parameter.help.endswith("."), f"{path} {parameter.name}"
        if parameter.param_type_name == "argument" or not parameter.is_flag:
            assert parameter.metavar, f"{path} {parameter.name}"


@pytest.mark.parametrize(("path", "command"), ALL, ids=[path for path, _ in ALL])
def test_every_command_has_help(path: str, command: Any, run: Callable[..., Result]) -> None:
    result = run(*path.split(), "--help")
    assert result.exit_code == 0
    assert inspect.cleandoc(command.help).splitlines()[0][:40] in result.stdout
    assert run(*path.split(), "-h").stdout == result.stdout


def test_help_lists_commands_and_exit_codes(run: Callable[..., Result]) -> None:
    result = run("--help")
    assert result.exit_code == 0
    for entry in COMMANDS:
        assert f"  {entry.name} " in result.stdout
        assert entry.help in result.stdout
    assert "130  Interrupted" in result.stdout


def test_no_arguments_show_the_help_as_an_error(run: Callable[..., Result]) -> None:
    result = run()
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "Commands:" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["stats"], "No such command 'stats'"),
        (["--verbose"], "Give a command."),
        (["status", "--bogus"], "--bogus"),
        (["jobs", "list", "--limit", "0"], "limit"),
        (["jobs", "list", "--state", "sleeping"], "sleeping"),
        (["process", "--format", "exe", "x"], "exe"),
        (["jobs", "replay", "0192"], "--from"),
    ],
)
def test_a_wrong_command_line_ends_with_2(arguments: list[str], said: str, run: Callable[..., Result]) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "E_USAGE" in result.stderr
    assert said in result.stderr
    assert "--help" in result.stderr


@pytest.mark.parametrize(
    "line",
    [
        "submit @", "submit song.flac @", "process @", "process song.flac -o @", "why @", "verify @", "library lint @",
        "library preview @", "library preview --catalogue @", "models import center m @", "demo-songs @",
        "demo --keep @", "tui --replay @", "tui --record @", "engines install x --find-links @",
        "install systemd --root @", "install compose --dir @", "jobs bundle 0192 -o @", "--data-dir @ status",
        "--config @ status",
    ],
)  # fmt: skip
def test_an_empty_name_is_not_the_current_folder(line: str, run: Callable[..., Result]) -> None:
    result = run(*("" if word == "@" else word for word in line.split()))
    assert result.exit_code == 2
    assert "an empty name names nothing" in result.stderr


def test_a_typing_mistake_is_answered_with_what_is_like_it(run: Callable[..., Result]) -> None:
    assert "'status'" in run("statsu").stderr


def test_a_wrong_command_line_with_json(run: Callable[..., Result]) -> None:
    result = run("status", "--json", "--bogus")
    data = json.loads(result.stderr)
    assert data["exit_code"] == result.exit_code == 2
    assert data["error"]["code"] == "E_USAGE"


def test_version(run: Callable[..., Result]) -> None:
    result = run("--version")
    assert (result.exit_code, result.stdout) == (0, f"ironclad {ironclad.__version__}\n")
    more = run("--version", "--verbose").stdout.splitlines()
    assert more[0] == f"ironclad {ironclad.__version__}"
    assert any(line.startswith("prefect 3.") for line in more)
    assert any(line.startswith("python 3.") for line in more)
    assert f"tables {schema.HEAD}, for Ironclad {schema.MIN_CODE} or newer" in more
    assert "plugin API 1" in more


def test_without_an_installation_reading_commands_say_so_and_make_none(
    run: Callable[..., Result], tmp_path: Any
) -> None:
    for arguments in (["status"], ["jobs", "list"], ["why", "x.mp3"], ["pause"], ["db", "check"]):
        result = run(*arguments)
        assert result.exit_code == 5
        assert "E_NO_INSTALLATION" in result.stderr
    assert not (tmp_path / "data").exists()
