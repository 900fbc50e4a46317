"""Small file systems of their own, where this process may mount them (root, and a kernel that allows it)."""

from __future__ import annotations

import contextlib
import subprocess
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextlib.contextmanager
def small(folder: Path, options: str) -> Iterator[bool]:
    """A tmpfs on a folder, made if it is not there; false where none can be mounted. Gone at the end, in use or not.

    Args:
        folder: where.
        options: of tmpfs, as `size=3m` or `nr_inodes=100`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    mounted = subprocess.run(command, capture_output=True, check=False, timeout=60).returncode == 0
    try:
        yield mounted
    finally:
        if mounted:
            unmount(folder, check=False)  # a test may have done it


@contextlib.contextmanager
def needed(folder: Path, options: str) -> Iterator[Path]:
    """The same; the test is skipped where none can be mounted."""
    with small(folder, options) as mounted:
        if not mounted:
            pytest.skip("nothing can be mounted here: that needs root")
        yield folder


def unmount(folder: Path, *, check: bool = True) -> None:
    """Take the file system away, whoever still has files of it open."""
    subprocess.run(["umount", "--lazy", str(folder)], capture_output=True, check=check, timeout=60)
