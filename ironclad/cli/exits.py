"""The one table of exit codes, and which error ends in which."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ironclad.errors import BadRequest, ErrorKind, NotFound

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ironclad.errors import IroncladError

OK: Final = 0
FAILED: Final = 1
USAGE: Final = 2
CONFIG: Final = 3
DEPENDENCY: Final = 4
NOT_FOUND: Final = 5
INPUT: Final = 6
NOT_NOW: Final = 7
INTERNAL: Final = 70
TEMPORARY: Final = 75
OPERATOR: Final = 78
INTERRUPTED: Final = 130
BROKEN_PIPE: Final = 141

EXIT_CODES: Final[Mapping[int, str]] = {
    OK: "Done.",
    FAILED: "Some or all of the work failed, or a check found a problem.",
    USAGE: "The command line is wrong.",
    CONFIG: "A setting, the installation or its state must be put right by an operator.",
    DEPENDENCY: "The database or Prefect does not answer.",
    NOT_FOUND: "There is no such job, file, pool, engine or installation.",
    INPUT: "The file was refused.",
    NOT_NOW: "Not possible now: the job's state, a pause, the disk or the memory does not allow it.",
    INTERNAL: "A bug of Ironclad's.",
    TEMPORARY: "`run` and services only: something needed is missing for now; start it again (EX_TEMPFAIL).",
    OPERATOR: "`run` and services only: an operator must act; starting again is useless (EX_CONFIG).",
    INTERRUPTED: "Interrupted (Ctrl-C or SIGTERM); what was running was cancelled or given back.",
    BROKEN_PIPE: "Whoever read the output went away.",
}
"""Every exit code and what it means."""

_BY_KIND: Final[Mapping[ErrorKind, int]] = {
    ErrorKind.INPUT: INPUT,
    ErrorKind.CONFIG: CONFIG,
    ErrorKind.RESOURCE: NOT_NOW,
    ErrorKind.DEPENDENCY: DEPENDENCY,
    ErrorKind.WORKER: FAILED,
    ErrorKind.ENGINE: FAILED,
    ErrorKind.CONTROL: NOT_NOW,
    ErrorKind.INTERNAL: INTERNAL,
}


def exit_code(error: IroncladError | type[IroncladError]) -> int:
    """The exit code of a command that ends by this error, or by any of this class."""
    entry = error if isinstance(error, type) else type(error)
    if issubclass(entry, NotFound):
        return NOT_FOUND
    if issubclass(entry, BadRequest):
        return USAGE
    return _BY_KIND[entry.kind]


def epilog() -> str:
    """The table as `ironclad --help` shows it."""
    rows = "\n".join(f"  {code:>3}  {meaning}" for code, meaning in EXIT_CODES.items())
    return f"\b\nExit codes:\n{rows}"
