from __future__ import annotations

import pytest

from ironclad import errors
from ironclad.cli import exits


def test_every_error_ends_in_a_documented_exit_code_that_is_not_success() -> None:
    for entry in errors.CATALOGUE.values():
        assert exits.exit_code(entry) in exits.EXIT_CODES
        assert exits.exit_code(entry) != exits.OK


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.ConfigError(), 3),
        (errors.SchemaMismatch(), 3),
        (errors.EngineMissing(), 3),
        (errors.DatabaseUnavailable(), 4),
        (errors.PrefectUnavailable(), 4),
        (errors.NotFound(), 5),
        (errors.NoInstallation(), 5),
        (errors.NotAudio(), 6),
        (errors.BadRequest(), 2),
        (errors.IllegalTransition(), 7),
        (errors.Paused(), 7),
        (errors.DiskFull(), 7),
        (errors.EngineFailed(), 1),
        (errors.Unexpected(), 70),
    ],
)
def test_scripts_can_tell_errors_apart(error: errors.IroncladError, code: int) -> None:
    assert exits.exit_code(error) == exits.exit_code(type(error)) == code


def test_help_lists_every_exit_code() -> None:
    text = exits.epilog()
    for code, meaning in exits.EXIT_CODES.items():
        assert f"{code:>3}  {meaning}" in text
