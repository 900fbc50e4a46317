"""What a forked process does: run one Prefect flow run and end.

The order mirrors Prefect's own entry point `prefect.engine.__main__`, whose parts are imported already.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
import traceback
from typing import TYPE_CHECKING, NoReturn, cast
from uuid import UUID

if TYPE_CHECKING:
    import logging
    from collections.abc import Mapping


def renew(environment: Mapping[str, str]) -> None:
    """Take a new environment into the fork server, Prefect's settings included: threads of runs read no others."""
    changed = any(os.environ.get(name) != value for name, value in environment.items())
    os.environ.update(environment)
    if changed:
        from prefect.context import refresh_global_settings_context  # noqa: PLC0415 - preloaded: see the module

        refresh_global_settings_context()


def run_flow_run(flow_run_id: UUID) -> None:
    """Run a flow run to its end; ends by `SystemExit` or another exception where Prefect's engine does."""
    from prefect._internal.control_listener import configure_from_env  # noqa: PLC0415 - preloaded: see the module
    from prefect._internal.metrics import RunMetrics  # noqa: PLC0415
    from prefect.context import SettingsContext, get_settings_context  # noqa: PLC0415
    from prefect.engine import _drive_run_flow_result, handle_engine_signals  # noqa: PLC0415
    from prefect.flow_engine import load_flow, load_flow_run, run_flow  # noqa: PLC0415
    from prefect.logging.loggers import flow_run_logger  # noqa: PLC0415
    from prefect.settings import Settings  # noqa: PLC0415

    configure_from_env()
    # Read again: this run's environment differs from what the fork server saw when it imported Prefect.
    settings = SettingsContext(profile=get_settings_context().profile, settings=Settings())
    with settings, handle_engine_signals(flow_run_id):
        run = load_flow_run(flow_run_id=flow_run_id)
        log = flow_run_logger(flow_run=run)
        try:
            flow = load_flow(run)
        except Exception:
            log.exception("The flow could not be loaded.")
            raise
        with RunMetrics(run, flow):
            _drive_run_flow_result(flow, run_flow(flow, flow_run=run, error_logger=cast("logging.Logger", log)))


def _exit_code(end: SystemExit) -> int:
    if end.code is None:
        return 0
    return end.code if isinstance(end.code, int) else 1


def main(environment: Mapping[str, str]) -> NoReturn:
    """Run the flow run that `PREFECT__FLOW_RUN_ID` in `environment` names, then leave without returning.

    Exit codes: 0 when Prefect's engine reported the run's end, whatever it was; anything else makes the worker report
    the run as crashed.
    """
    os.environ.update(environment)
    code = 1
    try:
        run_flow_run(UUID(environment["PREFECT__FLOW_RUN_ID"]))
        code = 0
    except SystemExit as end:
        code = _exit_code(end)
    except BaseException:  # noqa: BLE001 - the border of the process: the exit code carries it on
        traceback.print_exc()
    finally:
        # The interpreter's own order at exit; Prefect sends its last logs and events from the first. What follows in a
        # normal exit, taking thousands of preloaded modules apart, would only copy their pages.
        threading._shutdown()  # type: ignore[attr-defined] # noqa: SLF001 - no public name
        atexit._run_exitfuncs()  # noqa: SLF001 - no public name
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
