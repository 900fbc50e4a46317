"""Start a PostgreSQL program, also as root: PostgreSQL refuses to run with user id 0.

Run as `python -I -m ironclad.db.pg_launch run|detach PROGRAM ARGUMENT…`: it replaces itself by the program, or starts
it as a daemon of its own session and exits. As root it first enters a user namespace in which root is an ordinary
user: files keep their owner, and no account is made.
"""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

_CLONE_NEWUSER = 0x10000000
_INNER_ID = 1000


def become_ordinary() -> None:
    """Enter a user namespace that shows our root as user 1000. Raises OSError where the kernel forbids it."""
    uid, gid = os.geteuid(), os.getegid()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWUSER) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    Path("/proc/self/setgroups").write_text("deny", encoding="ascii")
    Path("/proc/self/uid_map").write_text(f"{_INNER_ID} {uid} 1", encoding="ascii")
    Path("/proc/self/gid_map").write_text(f"{_INNER_ID} {gid} 1", encoding="ascii")


def main() -> None:
    """Replace this process (or a daemon forked from it) by the program given on the command line."""
    mode, command = sys.argv[1], sys.argv[2:]
    if os.geteuid() == 0:
        try:
            become_ordinary()
        except OSError as exc:
            sys.exit(
                f"PostgreSQL does not run as root, and this kernel forbids user namespaces ({exc}). "
                "Run Ironclad as an ordinary user, or set IRONCLAD_DATABASE_URL."
            )
    if mode == "detach":
        if os.fork():
            os._exit(0)  # nobody has to wait for the server: it becomes init's child
        os.setsid()
    os.execv(command[0], command)  # noqa: S606 - no shell, and the caller gives an absolute path of ours


if __name__ == "__main__":
    main()
