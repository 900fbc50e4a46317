"""Demucs for Ironclad.

`plugin` is what Ironclad's own process loads; `separator` and what it imports run in the engine host. Only `pytorch`,
`weights` and `export` import PyTorch.
"""

from __future__ import annotations

__version__ = "0.2.0"
