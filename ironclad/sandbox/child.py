"""The child's side: limit this process, then run the target.

A fork of the fork server (`ironclad.sandbox.zygote`), or started as `python -I -m ironclad.sandbox.child`.

Protocol: one JSON object on stdin (`target`, `request`, `limits`, `parent`), JSON lines on stdout: any number of
`{"progress": fraction}`, then one `{"result": {…}}` or `{"error": {"code", "detail", "context"}}`. Whatever a library
prints goes to stderr. The parent in the order is the process that a child started by itself dies with; a fork dies with
its fork server.
"""

from __future__ import annotations

import ctypes
import errno
import importlib
import json
import os
import resource
import sys
import traceback
from typing import TYPE_CHECKING, Any, TextIO

from ironclad.errors import DecodedTooLarge, DecodeLimit, DiskFull, IroncladError, StorageError, Unexpected

if TYPE_CHECKING:
    from collections.abc import Callable

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_NO_NEW_PRIVS = 38
_CLONE_NEWUSER = 0x10000000
_CLONE_NEWNET = 0x40000000
_SIGKILL = 9
_DETAIL = 2000
_UNMAPPABLE = "failed to map segment"
"""How the dynamic loader says that there is no memory."""


def _set_limits(limits: dict[str, Any]) -> None:
    for kind, soft, hard in (
        (resource.RLIMIT_CORE, 0, 0),
        (resource.RLIMIT_AS, limits["memory_bytes"], limits["memory_bytes"]),
        (resource.RLIMIT_CPU, limits["cpu_seconds"], limits["cpu_seconds"] + 1),
        (resource.RLIMIT_FSIZE, limits["file_bytes"], limits["file_bytes"]),
        (resource.RLIMIT_NOFILE, limits["open_files"], limits["open_files"]),
        (resource.RLIMIT_NPROC, limits["processes"], limits["processes"]),
    ):
        if soft is None:
            continue
        _, ceiling = resource.getrlimit(kind)
        if ceiling != resource.RLIM_INFINITY:  # an administrator's stricter limit stays
            soft, hard = min(soft, ceiling), min(hard, ceiling)  # noqa: PLW2901 -- clamped in place
        resource.setrlimit(kind, (soft, hard))


def _leave_network(libc: ctypes.CDLL) -> bool:
    """Enter an empty network namespace; False where the kernel or the container forbids it.

    Root takes the network namespace alone, because a new user namespace would cost it the right to read others' files.
    """
    if os.geteuid() == 0 and libc.unshare(_CLONE_NEWNET) == 0:
        return True
    return bool(libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET) == 0)


def confine(limits: dict[str, Any], parent: int) -> None:
    """Give up everything this process does not need, before it sees a byte of the file."""
    libc = ctypes.CDLL(None, use_errno=True)
    _leave_network(libc)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    # After unshare: a change of credentials clears the parent-death signal.
    libc.prctl(_PR_SET_PDEATHSIG, _SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit(1)  # it died before the signal was set
    _set_limits(limits)


def _take_stdout() -> TextIO:
    """The reply channel, with descriptor 1 pointed at stderr so that nothing a library prints can get into it."""
    reply = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return reply


def _translate(exc: BaseException) -> IroncladError:
    match exc:
        case IroncladError():
            translated: IroncladError = exc
        case MemoryError() | OSError(errno=errno.ENOMEM):
            translated = DecodeLimit("memory")
        case ImportError() if _UNMAPPABLE in str(exc):  # a library did not fit into what is left
            translated = DecodeLimit("memory")
        case OSError(errno=errno.EFBIG):
            translated = DecodedTooLarge("the file written reached the limit")
        case OSError(errno=errno.ENOSPC | errno.EDQUOT):
            translated = DiskFull(str(exc.filename or ""))
        case OSError(errno=errno.EIO | errno.ESTALE):
            translated = StorageError(str(exc))
        case _:
            translated = Unexpected("".join(traceback.format_exception(exc))[-_DETAIL:])
    return translated


def _load(target: str) -> Callable[[dict[str, Any], Callable[[float], None]], dict[str, Any]]:
    module, _, name = target.partition(":")
    function: Callable[[dict[str, Any], Callable[[float], None]], dict[str, Any]]
    function = getattr(importlib.import_module(module), name)
    return function


def main(parent: int | None = None) -> None:
    """Read the order from stdin, confine this process, run the target and reply.

    `parent` is the process that this one dies with, the one that the order names if None.
    """
    reply = _take_stdout()
    with os.fdopen(os.dup(0), encoding="utf-8") as stdin:
        order = json.loads(stdin.readline())
    confine(order["limits"], order["parent"] if parent is None else parent)

    def send(**message: Any) -> None:
        reply.write(json.dumps(message) + "\n")
        reply.flush()

    try:
        send(result=_load(order["target"])(order["request"], lambda fraction: send(progress=fraction)))
    except Exception as exc:  # noqa: BLE001 -- the process border: everything is translated and sent across
        failure = _translate(exc).to_dict()
        send(error={key: failure[key] for key in ("code", "detail", "context")})


if __name__ == "__main__":
    main()
