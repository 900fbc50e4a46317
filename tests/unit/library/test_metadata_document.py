"""docs/metadata.md says what is true: its settings load, its commands, events and hooks exist."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from ironclad.cli.main import COMMANDS
from ironclad.config import Settings
from ironclad.errors import CATALOGUE
from ironclad.plugins import hookspecs

DOCS = Path(__file__).parents[3] / "docs"
TEXT = (DOCS / "metadata.md").read_text(encoding="utf-8")
BLOCKS = [block for block in re.findall(r"(?:^(?:    .*|)\n)+", TEXT, re.MULTILINE) if block.strip()]


def test_its_settings_are_settings() -> None:
    merged: dict[str, Any] = {}
    found = [block for block in BLOCKS if block.strip().startswith("[")]
    assert len(found) == 2
    for block in found:
        merged |= tomllib.loads(re.sub(r"^    ", "", block, flags=re.MULTILINE))
    settings = Settings.model_validate(merged)
    assert settings.metadata.musicbrainz.enabled
    assert settings.metadata.cover_art.enabled
    assert settings.library.scan.plex.section == 3


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`((?:output|library|metadata)\.[a-z_.]+[a-z])`", TEXT))))
def test_each_setting_that_is_named_exists(path: str) -> None:
    node: Any = Settings()
    for part in path.split("."):
        node = getattr(node, part)


def names(command: Any) -> set[str]:
    return {option for parameter in command.params for option in parameter.opts}


def test_its_commands_and_options_exist() -> None:
    commands = {entry.name: entry for entry in COMMANDS}
    lines = re.findall(r"ironclad ([a-z][^`\n#]*)", "\n".join(BLOCKS))
    assert len(lines) >= 11
    for line in lines:
        first, *rest = line.split()
        command: Any = commands[first].load()
        while rest and rest[0] in getattr(command, "commands", {}):
            command = command.commands[rest.pop(0)]
        assert {word for word in rest if word.startswith("--")} <= names(command), line


def test_errors_hooks_and_pages_exist() -> None:
    assert set(re.findall(r"`(E_[A-Z_]+)`", TEXT)) <= CATALOGUE.keys()
    [hook] = set(re.findall(r"`(ironclad_[a-z_]+)\(", TEXT))
    assert hasattr(hookspecs, hook)
    for page in re.findall(r"\]\(([^)#]+)\)", TEXT):
        assert (DOCS / page).is_file()


def test_there_are_as_many_tags_as_it_says() -> None:
    rows = [line for line in (DOCS / "tag-support.md").read_text().splitlines() if line.count("`") == 2]
    assert len(rows) > 70
