"""A small real service for the supervisor's tests: `tiny_service.py MODE [FILE]`. It speaks sd_notify by itself."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from ironclad.ops.sdnotify import Notifier
from ironclad.processes import signal_on_parent_death


def ready(notifier: Notifier) -> None:
    """Say so until there is room to hear it: the kernel keeps a dozen messages, and others of the supervisor's beat."""
    while notifier.address and not notifier.send("READY=1", "STATUS=ready"):
        if signal.sigtimedwait({signal.SIGTERM}, 0.01):  # nobody is there any more
            sys.exit(0)


def serve(notifier: Notifier) -> None:
    ready(notifier)
    signal.sigwait({signal.SIGTERM})
    notifier.stopping()


def say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def main(mode: str, file: Path) -> int:  # noqa: C901, PLR0912 - one arm a mode
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    signal_on_parent_death(signal.SIGTERM)
    say(json.dumps({"event": "began", "mode": mode}))
    notifier = Notifier.from_environment()
    match mode:
        case "serve":
            serve(notifier)
        case "task":
            pass
        case "crash":
            say("something broke")
            return 3
        case "crash-while-file":
            if file.exists():
                return 3
            serve(notifier)
        case "config":
            error = {"code": "E_PORT_IN_USE", "what": "A port is taken.", "detail": "127.0.0.1:1"}
            say(json.dumps({"event": "service_failed", "error": error}))
            return 78
        case "never-ready":
            signal.sigwait({signal.SIGTERM})
        case "stubborn":
            ready(notifier)
            while True:
                time.sleep(60)
        case "beat":
            ready(notifier)
            while not signal.sigtimedwait({signal.SIGTERM}, 0.1):
                notifier.watchdog()
        case "family":
            child = subprocess.Popen(["sleep", "600"])
            file.write_text(str(child.pid), encoding="ascii")
            serve(notifier)
        case "daemon":  # a task that leaves a process running
            child = subprocess.Popen(["sleep", "600"], start_new_session=True)
            file.write_text(str(child.pid), encoding="ascii")
        case "record-stop":
            serve(notifier)
            with file.open("a", encoding="ascii") as out:
                out.write(os.environ["TINY_NAME"] + "\n")
        case _:
            return 64
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2] if len(sys.argv) > 2 else os.devnull)))
