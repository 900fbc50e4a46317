"""How `ironclad up` starts a service: without the command line, with the same exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

from ironclad.ops import plan, service

if TYPE_CHECKING:
    from pathlib import Path


def start(name: str, **environment: str) -> subprocess.CompletedProcess[str]:
    own = {name: value for name, value in os.environ.items() if not name.startswith("IRONCLAD_")}
    return subprocess.run(
        plan.service_command(name), env={**own, **environment}, capture_output=True, text=True, timeout=120, check=False
    )


def test_settings_that_do_not_load_are_logged_and_make_starting_again_useless(tmp_path: Path) -> None:
    done = start("watch", IRONCLAD_DATA_DIR=str(tmp_path), IRONCLAD_SERVICES__BASE_PORT="much")
    assert done.returncode == service.EXIT_CONFIG, done.stderr
    line = json.loads(done.stdout.splitlines()[-1])
    assert (line["event"], line["service"], line["error"]["code"]) == ("service_failed", "watch", "E_CONFIG")
    assert "base_port" in json.dumps(line["error"])


def test_a_service_that_there_is_not_ends_with_its_reason(tmp_path: Path) -> None:
    done = start("nobody", IRONCLAD_DATA_DIR=str(tmp_path), IRONCLAD_SERVICES__BASE_PORT="0")
    assert done.returncode != 0
    assert "nobody" in done.stdout + done.stderr


def test_the_command_line_is_not_imported() -> None:
    code = "import sys, ironclad.ops.services.__main__; sys.exit('typer' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=120, check=False).returncode == 0
