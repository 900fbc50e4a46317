"""Runs a function of ours on an untrusted file in a limited child process, so that no file can hurt a worker."""

from __future__ import annotations

from ironclad.sandbox.limits import SandboxLimits
from ironclad.sandbox.parent import run

__all__ = ["SandboxLimits", "run"]
