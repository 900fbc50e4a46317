"""The architectures of audio-separator for Ironclad.

`plugin` is what Ironclad's own process loads; `separator` and what it imports run in the engine host.
"""

from __future__ import annotations

__version__ = "0.1.0"
