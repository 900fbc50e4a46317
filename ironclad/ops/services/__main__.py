"""`python -m ironclad.ops.services NAME`: what `ironclad up` starts for each service; `ironclad run` without the CLI.

The CLI's parser and its help would be 6 MB more in each of five processes.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from ironclad import log
from ironclad.config import load
from ironclad.errors import IroncladError
from ironclad.ops import service
from ironclad.ops.services import registry

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str]) -> int:
    """Run the service until it is told to stop. Returns the exit code; settings that do not load are one, too."""
    (name,) = arguments
    try:
        settings = load()
    except IroncladError as exc:
        log.configure(service=name, human=False, stream=sys.stdout)
        log.get().error("service_failed", error=exc.to_dict())
        return service.exit_code(exc)
    return registry.run(name, settings)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
