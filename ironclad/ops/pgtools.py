"""PostgreSQL's own programs (pg_dump, pg_restore, psql), run on a database without showing its password to anybody."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import tempfile
import threading
from typing import TYPE_CHECKING, Final

from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import Conninfo

from ironclad.db.embedded import binaries
from ironclad.errors import DatabaseUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import IO

TRANSACTION_TIMEOUT_SINCE: Final = 170_000
"""The first server (`server_version_num`) that knows the setting `transaction_timeout`."""

_SECONDS: Final = 3600.0
_WORDS: Final = 600
_CHUNK: Final = 1 << 20
# The COMMIT is within so many bytes of a script's end: it is sent only when all before it is known to be whole.
_HELD: Final = 4096
_TOO_NEW: Final = b"SET transaction_timeout = 0;\n"
# What stands before the first statement of a dump's own: comments, psql's \restrict, BEGIN and session settings.
_HEADER: Final = re.compile(
    rb"(?:--.*|\\restrict \w+|BEGIN;|SET \w+ = .*;|SELECT pg_catalog\.set_config\('search_path', '', false\);)?\n"
)


def run(dsn: str, program: str, *arguments: str) -> None:
    """Run a program on a database; its address and password travel by the environment alone.

    Args:
        dsn: libpq's connection string or URL.
        program: its name; the one in the package comes first, then the one on the path.
        arguments: for it.

    Raises `DatabaseUnavailable` with the program's own last words.
    """
    try:
        done = subprocess.run(
            [_path(program), *arguments], env=_environment(dsn), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE, text=True, errors="replace", check=False, timeout=_SECONDS,
        )  # fmt: skip
    except subprocess.TimeoutExpired as exc:
        raise DatabaseUnavailable(f"{program} took longer than {_SECONDS:.0f} s") from exc
    if done.returncode != 0:
        raise DatabaseUnavailable(f"{program} failed: {done.stderr.strip()[-_WORDS:]}")


def restore(dsn: str, archive: Path, *arguments: str, server: int) -> None:
    """Put an archive of pg_dump's into a database, in one transaction: all of it, or nothing and an error.

    pg_restore of PostgreSQL 17 and later begins with `SET transaction_timeout = 0`, which earlier servers refuse.
    Those are given pg_restore's script without that line, which changes nothing there: what they do not have cannot
    end the transaction. No other error is passed over on any server.

    Args:
        dsn: libpq's connection string or URL.
        archive: in pg_dump's custom format.
        arguments: for pg_restore.
        server: the server's `server_version_num`.

    Raises `DatabaseUnavailable` with the program's own last words.
    """
    if server >= TRANSACTION_TIMEOUT_SINCE:
        known = conninfo_to_dict(dsn)
        name = known.get("dbname") or known.get("user") or ""
        run(dsn, "pg_restore", "--single-transaction", *arguments, f"--dbname={name}", str(archive))
    else:
        restore_script(dsn, archive, *arguments)


def restore_script(dsn: str, archive: Path, *arguments: str) -> None:
    """As `restore` does for servers before 17: pg_restore's script, less the setting they lack, through psql."""
    environment = _environment(dsn)
    # pg_restore writes BEGIN and COMMIT into the script: one that ends early is rolled back by psql's leaving.
    read = [_path("pg_restore"), "--single-transaction", *arguments, "--file=-", str(archive)]
    play = [_path("psql"), "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", "--file=-"]
    with contextlib.ExitStack() as stack:
        said = {name: stack.enter_context(tempfile.TemporaryFile()) for name in ("pg_restore", "psql")}
        reader = stack.enter_context(
            subprocess.Popen(
                read, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=said["pg_restore"]
            )
        )
        stack.callback(reader.kill)
        player = stack.enter_context(
            subprocess.Popen(
                play, env=environment, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=said["psql"]
            )
        )
        stack.callback(player.kill)
        late = threading.Event()

        def end() -> None:
            late.set()
            reader.kill()
            player.kill()

        timer = threading.Timer(_SECONDS, end)
        stack.callback(timer.cancel)
        timer.start()
        assert reader.stdout is not None  # noqa: S101 - for the type: it was asked for
        assert player.stdin is not None  # noqa: S101 - likewise
        taken = _feed(reader.stdout, player.stdin, reader)
        if late.is_set():
            raise DatabaseUnavailable(f"pg_restore and psql took longer than {_SECONDS:.0f} s")
        if taken and reader.returncode != 0:
            raise DatabaseUnavailable(f"pg_restore failed: {_last_words(said['pg_restore'])}")
        if player.wait() != 0 or not taken:
            raise DatabaseUnavailable(f"psql failed: {_last_words(said['psql'])}")


def without_transaction_timeout(source: IO[bytes]) -> Iterator[bytes]:
    """A script of pg_restore's without the setting that servers before 17 refuse; whatever follows its header as it is.

    Args:
        source: the script, read to its end.
    """
    for line in iter(source.readline, b""):
        if line != _TOO_NEW:
            yield line
        if not _HEADER.fullmatch(line):
            break  # from here on there may be data, in which a line can be anything
    while chunk := source.read(_CHUNK):
        yield chunk


def _feed(source: IO[bytes], sink: IO[bytes], reader: subprocess.Popen[bytes]) -> bool:
    """Send the script on; its end, with the COMMIT, only if its writer has ended well. False if nobody takes it."""
    held = b""
    try:
        for piece in without_transaction_timeout(source):
            held += piece
            if len(held) > _HELD:
                sink.write(held[:-_HELD])
                held = held[-_HELD:]
        if reader.wait() == 0:
            sink.write(held)
        sink.close()
    except BrokenPipeError:
        with contextlib.suppress(BrokenPipeError):
            sink.close()
        return False
    return True


def _path(program: str) -> str:
    found = binaries() / program
    path = str(found) if found.exists() else shutil.which(program)
    if path is None:
        raise DatabaseUnavailable(f"{program} is missing")
    return path


def _environment(dsn: str) -> dict[str, str]:
    """Ours, with libpq's variable for each part of the connection string, as our own connections would have it."""
    known = conninfo_to_dict(dsn)
    given = {
        option.envvar.decode(): str(known[keyword])
        for option in Conninfo.get_defaults()
        if option.envvar and known.get(keyword := option.keyword.decode()) is not None
    }
    return {**{name: value for name, value in os.environ.items() if name != "PGOPTIONS"}, **given}


def _last_words(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode(errors="replace").strip()[-_WORDS:]
