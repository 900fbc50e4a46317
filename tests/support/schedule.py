"""Which tests go together to which of pytest-xdist's workers, and in which order.

`--dist loadgroup` finds groups by a suffix that pytest-xdist gives to the ids of tests; pytest 9.2 ignores the suffix,
and with it every group. Here they are found by the file alone, which the scheduler always knows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from xdist.scheduler.loadscope import LoadScopeScheduling

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pytest

GROUPS = {
    "tests/e2e/test_wheel.py": "tests/e2e/test_wheel.py",
    "tests/e2e/": "services",
    "tests/integration/flows/test_several_servers.py": "services",
    "tests/chaos/test_kill_each.py": "services",
    "tests/chaos/system/test_monkey.py": "services",
    "tests/integration/ops/test_owner_role.py": "services",
    "tests/integration/flows/": "prefect",
    "tests/integration/engines/": "engines",
    "tests/integration/contract/": "engines",
    "tests/chaos/test_crash_slice.py": "laboratory",
    "tests/chaos/test_seeded_bugs.py": "laboratory",
}
"""Beginnings of test ids and what they belong to, the first that fits: whole installations, which take both cores each;
what shares one Prefect server; what kills engine hosts, for memory and otherwise, because the kernel counts its kills
for the whole machine; what shares one laboratory. The rest belongs to its file."""
_SERVICES, _SLOW, _OTHER, _UNIT = range(4)


class ByGroup(LoadScopeScheduling):
    """A group stays together on one worker, and so does a file: what a module's fixtures make is made once."""

    def _split_scope(self, nodeid: str) -> str:
        return group(nodeid)


def group(nodeid: str) -> str:
    """The unit that a test belongs to."""
    return next((found for start, found in GROUPS.items() if nodeid.startswith(start)), nodeid.partition("::")[0])


def ordered(items: Sequence[pytest.Item]) -> list[pytest.Item]:
    """The longest first, so that no worker is left alone with one at the end; at random among equals, as given."""
    return sorted(items, key=_rank)


def _rank(item: pytest.Item) -> int:
    if group(item.nodeid) == "services":
        return _SERVICES
    if item.get_closest_marker("slow") is not None or group(item.nodeid) == "prefect":
        return _SLOW
    return _UNIT if item.nodeid.startswith("tests/unit/") else _OTHER
