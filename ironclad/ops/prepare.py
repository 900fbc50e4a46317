"""What must be done once before the services start, in a process of its own, so that `ironclad up` stays small.

`python -m ironclad.ops.prepare postgres` makes and starts the embedded server; `… schema` brings the database to this
version's schema, when the server answers.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING

from ironclad import config, log, processes
from ironclad.errors import BadRequest, IroncladError
from ironclad.ops.plan import POSTGRES, SCHEMA
from ironclad.ops.service import EXIT_FAILURE, EXIT_TEMPORARY, SUPERVISOR_VARIABLE, exit_code

if TYPE_CHECKING:
    from collections.abc import Callable

    from ironclad.config import Settings

_DATABASE_SECONDS = 60.0


def start_postgres(settings: Settings) -> None:
    """Make the embedded server run. It goes on after this process, as long as somebody holds it."""
    from ironclad.db.embedded import EmbeddedServer  # noqa: PLC0415 - the tasks need different libraries

    EmbeddedServer(settings.layout.postgres).start()


def migrate(settings: Settings) -> None:
    """Bring the schema up to date (a server of the operator's is only checked, unless it is empty)."""
    from ironclad.db import schema  # noqa: PLC0415 - likewise
    from ironclad.db.session import Database  # noqa: PLC0415

    database = Database.open(settings)
    try:
        database.patiently(lambda: schema.ensure(database), seconds=_DATABASE_SECONDS)
    finally:
        database.engine.dispose()  # not close(): the embedded server stays, and its lock ends with this process


def _task(arguments: list[str]) -> Callable[[Settings], None]:
    tasks = {POSTGRES: start_postgres, SCHEMA: migrate}
    if len(arguments) != 1 or arguments[0] not in tasks:
        raise BadRequest(f"give one of {', '.join(tasks)}")
    return tasks[arguments[0]]


def main(arguments: list[str]) -> int:
    """Run one task. Returns the exit code."""
    supervisor = os.environ.get(SUPERVISOR_VARIABLE)
    if supervisor is not None:
        processes.signal_on_parent_death(signal.SIGKILL)
        if os.getppid() != int(supervisor):
            return EXIT_TEMPORARY
    log.configure(service=arguments[0] if arguments else "prepare", human=False)
    try:
        task = _task(arguments)
        task(config.load())
    except IroncladError as exc:
        log.get().error("task_failed", error=exc.to_dict())
        return exit_code(exc)
    except Exception:  # noqa: BLE001 - the border of the process
        log.get().exception("task_crashed")
        return EXIT_FAILURE
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
