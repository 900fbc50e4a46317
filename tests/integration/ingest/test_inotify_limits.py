"""The kernel's real limits, set low in a user namespace of a child's own: the root is polled, and says why."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pathlib import Path

CHILD = """
import json, sys
from pathlib import Path
from ironclad import log
from ironclad.config import IngestSettings, WatchRoot
from ironclad.ingest.rules import Rules
from ironclad.ingest.scan import scan
from ironclad.ingest.watch import RootView

log.configure(service="test", level="ERROR")
root = Path(sys.argv[1])
view = RootView(WatchRoot(path=root, watch="events"), root, None, lambda _event: None, lambda: None)
health = view.check()
done = []
for _ in range(2):
    listing = scan(root, Rules(IngestSettings()), frozenset())
    done.append(view.seen(health, listing.folders, empty=listing.empty))
print(json.dumps({"status": view.status.to_dict(), "done": done}))
view.detach()
"""


def under_limit(tmp_path: Path, limit: str, value: int) -> dict[str, Any]:
    for number in range(12):
        (tmp_path / "ana" / str(number)).mkdir(parents=True)
    script = f'echo {value} > /proc/sys/user/{limit} || exit 77; exec "$0" -c "$1" "$2"'
    command = ["unshare", "-U", "-r", "sh", "-c", script, sys.executable, CHILD, str(tmp_path)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=250)
    except FileNotFoundError:
        pytest.skip("there is no unshare")
    if done.returncode == 77 or "unshare:" in done.stderr:
        pytest.skip("user namespaces are not allowed")
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def test_too_few_watches_for_the_sub_folders(tmp_path: Path) -> None:
    told = under_limit(tmp_path, "max_inotify_watches", 5)
    assert told["done"] == [False, True]  # looked again before it was believed
    assert told["status"]["how"] == "polling"
    assert "only 5 of 14 folders" in told["status"]["reason"]


def test_no_watch_at_all(tmp_path: Path) -> None:
    told = under_limit(tmp_path, "max_inotify_watches", 0)
    assert told["status"]["how"] == "polling"
    assert "max_user_watches" in told["status"]["reason"]


def test_no_inotify_instance(tmp_path: Path) -> None:
    told = under_limit(tmp_path, "max_inotify_instances", 0)
    assert told["status"]["how"] == "polling"
    assert "max_user_instances" in told["status"]["reason"]


def test_enough_of_all(tmp_path: Path) -> None:
    told = under_limit(tmp_path, "max_inotify_watches", 100)
    assert told["status"]["how"] == "events"
    assert told["done"] == [True, True]
