"""PostgreSQL's own programs (pg_dump, pg_restore), run on a database without showing its password to anybody."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import Final

from psycopg.conninfo import conninfo_to_dict

from ironclad.db.embedded import binaries
from ironclad.errors import DatabaseUnavailable

_SECONDS: Final = 3600.0
_VARIABLES: Final = {
    "host": "PGHOST", "hostaddr": "PGHOSTADDR", "port": "PGPORT", "user": "PGUSER", "password": "PGPASSWORD",
    "dbname": "PGDATABASE", "sslmode": "PGSSLMODE", "sslrootcert": "PGSSLROOTCERT", "sslcert": "PGSSLCERT",
    "sslkey": "PGSSLKEY",
}  # fmt: skip


def run(dsn: str, program: str, *arguments: str) -> None:
    """Run a program on a database; its address and password travel by the environment alone.

    Args:
        dsn: libpq's connection string or URL.
        program: its name; the one in the package comes first, then the one on the path.
        arguments: for it.

    Raises `DatabaseUnavailable` with the program's own last words.
    """
    found = binaries() / program
    path = str(found) if found.exists() else shutil.which(program)
    if path is None:
        raise DatabaseUnavailable(f"{program} is missing")
    known = conninfo_to_dict(dsn)
    given = {variable: str(known[name]) for name, variable in _VARIABLES.items() if known.get(name) is not None}
    environment = {**{name: value for name, value in os.environ.items() if not name.startswith("PG")}, **given}
    try:
        done = subprocess.run(
            [path, *arguments], env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE, text=True, check=False, timeout=_SECONDS,
        )  # fmt: skip
    except subprocess.TimeoutExpired as exc:
        raise DatabaseUnavailable(f"{program} took longer than {_SECONDS:.0f} s") from exc
    if done.returncode != 0:
        raise DatabaseUnavailable(f"{program} failed: {done.stderr.strip()[-600:]}")
