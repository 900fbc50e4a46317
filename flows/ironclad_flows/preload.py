"""What the fork server imports once, so that a flow run's process starts with everything loaded.

A fork copies one thread only: a lock that another thread held stays locked for ever in the child, and a socket or a
CUDA context would be shared by all children. Preloading therefore must leave exactly one thread and no connection.
"""

from __future__ import annotations

import gc
import importlib
import os
import threading
from typing import TYPE_CHECKING

from ironclad.errors import ConfigError
from ironclad_flows.processes import native_threads

if TYPE_CHECKING:
    from collections.abc import Sequence

PREFECT_MODULES = (
    "prefect.engine",
    "prefect.flow_engine",
    "prefect.task_engine",
    "prefect.futures",
    "prefect.task_runners",
    "prefect.logging.handlers",
    "prefect.events.worker",
    "prefect.events.clients",
    "prefect.artifacts",
    "prefect.client.orchestration",
    "prefect._internal.metrics",
    "prefect._internal.control_listener",
    "prefect.deployments",
    "prefect.runner.storage",
    "prefect.input",
    "prefect.concurrency.sync",
)
"""What Prefect itself imports, most of it late, while it runs a flow."""

STAGE_MODULES = (
    "ironclad_flows.process_track",
    "ironclad.stages.runner",
    "ironclad.db.session",
    "ironclad.engines.builtin",
    "ironclad.library.scan",
    "ironclad.notify.webhook",
    "numpy.fft",
    "numpy.random",
    "pwd",
)
"""What our own flow and the stages need; a test tells when a run imports something else by itself."""

# A BLAS library starts its threads when NumPy is imported, in spite of all care above.
_SINGLE_THREADED = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")


def load(modules: Sequence[str]) -> int:
    """Import `modules`, then freeze everything out of garbage collection.

    Returns the number of objects frozen. Raises `ConfigError` if a thread is running afterwards, and whatever an
    import raises.
    """
    given = {name: os.environ.get(name) for name in _SINGLE_THREADED}
    os.environ.update(dict.fromkeys(_SINGLE_THREADED, "1"))
    for module in modules:
        importlib.import_module(module)
    for name, value in given.items():
        # Programs that a run starts (engine hosts) may use the cores they were given.
        if value is None:
            del os.environ[name]
        else:
            os.environ[name] = value
    if native_threads() != 1:
        names = [thread.name for thread in threading.enumerate() if thread is not threading.main_thread()]
        raise ConfigError(f"A preloaded module started threads ({', '.join(names) or 'not Python ones'}).")
    # Garbage collection in a child would write to every shared page's reference counts and so copy it.
    gc.collect()
    gc.freeze()
    return gc.get_freeze_count()
