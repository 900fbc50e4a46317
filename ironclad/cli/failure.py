"""How a command ends when it does not end well: text or JSON on standard error, and the exit code."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import typer

from ironclad.cli import exits
from ironclad.cli.text import printable
from ironclad.errors import DiskFull, IroncladError, Unexpected

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

# Typer has carried its command-line parser under two names; what it raises is public by this base class alone.
_UsageError: Final[type[Exception]] = typer.BadParameter.__bases__[0]


def guarded(call: Callable[[], object], arguments: Sequence[str]) -> int:
    """Make the call; whatever happens is told on standard error and becomes an exit code.

    Args:
        call: the command; may raise anything.
        arguments: the command line, which says how the user wants to be told (`--json`, `-v`).
    """
    _somewhere_to_write()
    try:
        call()
        sys.stdout.flush()
    except typer.Exit as exc:
        return _flushed(exc.exit_code, arguments)
    except (KeyboardInterrupt, typer.Abort):
        return exits.INTERRUPTED
    except BrokenPipeError:
        return _pipe_is_gone()
    except Exception as exc:  # noqa: BLE001 - the border of the program
        code = _tell(_known(exc), arguments)
        if _verbose(arguments) and code != exits.USAGE:
            _write("".join(traceback.format_exception(exc)))
        return code
    return exits.OK


def wants_json(arguments: Sequence[str]) -> bool:
    """Whether the command line asks for JSON."""
    return "--json" in _before_dashes(arguments)


def _before_dashes(arguments: Sequence[str]) -> Sequence[str]:
    return arguments[: arguments.index("--")] if "--" in arguments else arguments


def _somewhere_to_write() -> None:
    """Who starts us with `>&-` wants to read nothing, and a file or socket of ours must not become standard output."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115 - until the end


def _flushed(code: int, arguments: Sequence[str]) -> int:
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        return _pipe_is_gone()
    except OSError as exc:
        return _tell(_known(exc), arguments)
    return code


def _pipe_is_gone() -> int:
    _flush_nowhere()
    return exits.BROKEN_PIPE


def _flush_nowhere() -> None:
    """Nobody reads, or nothing can be written: let the interpreter flush somewhere at its end, or it complains."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _known(error: Exception) -> Exception:
    """A disk that is full below what we print into is no bug of ours."""
    if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}:
        _flush_nowhere()
        return DiskFull(str(error))
    return error


def _write(lines: str) -> None:
    with contextlib.suppress(BrokenPipeError):
        sys.stderr.write(f"{lines}\n")
        sys.stderr.flush()


def _styled(text: str, **style: Any) -> str:
    colour = sys.stderr.isatty() and not os.environ.get("NO_COLOR")
    return typer.style(text, **style) if colour else text


def error_data(error: IroncladError, code: int) -> dict[str, Any]:
    """What is printed for an error with --json."""
    return {"error": error.to_dict(), "exit_code": code}


def describe(error: IroncladError) -> str:
    """An error for people: code, what happened, detail; then what to do."""
    head = _styled(error.code, fg="red", bold=True)
    return f"{head} {printable(str(error), lines=True)}\n{_styled('What to do:', bold=True)} {error.hint}"


def _tell(error: Exception, arguments: Sequence[str]) -> int:
    if isinstance(error, IroncladError):
        return _tell_known(error, arguments)
    if isinstance(error, _UsageError):
        return _tell_usage(error, arguments)
    return _tell_unexpected(error, arguments)


def _tell_known(error: IroncladError, arguments: Sequence[str]) -> int:
    code = exits.exit_code(error)
    _write(json.dumps(error_data(error, code)) if wants_json(arguments) else describe(error))
    return code


def _tell_usage(error: Exception, arguments: Sequence[str]) -> int:
    message = error.format_message() if hasattr(error, "format_message") else str(error)
    context = getattr(error, "ctx", None)
    if type(error).__name__ == "NoArgsIsHelpError":  # its message is the help
        _write(message)
    elif wants_json(arguments):
        data = {"code": "E_USAGE", "what": "The command line is wrong.", "detail": message}
        _write(json.dumps({"error": data, "exit_code": exits.USAGE}))
    else:
        if context is not None:
            _write(f"{context.get_usage()}\nTry '{context.command_path} --help'.\n")
        _write(f"{_styled('E_USAGE', fg='red', bold=True)} {printable(message, lines=True)}")
    return exits.USAGE


def _tell_unexpected(error: Exception, arguments: Sequence[str]) -> int:
    known = Unexpected(f"{type(error).__name__}: {error}")
    if wants_json(arguments):
        _write(json.dumps(error_data(known, exits.INTERNAL)))
    else:
        _write(
            f"{_styled(known.code, fg='red', bold=True)} {printable(str(known), lines=True)}\n"
            f"{_styled('What to do:', bold=True)} Run it again as `ironclad -v …` and report what it prints, with the "
            "output of `ironclad --version --verbose`."
        )
    return exits.INTERNAL


def _verbose(arguments: Sequence[str]) -> bool:
    return bool({"-v", "--verbose"} & set(_before_dashes(arguments)))
