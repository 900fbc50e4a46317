"""Start a host in an environment that does not have Ironclad: `python -I launch.py --package NAME=FOLDER … [options]`.

Exactly the packages named are imported from where Ironclad has them (its own, for the host, and the plugin's);
everything else comes from the environment. Adding Ironclad's site-packages to the path instead would bring its NumPy
along. The other options are the host's own. Standard library only, and no import of Ironclad before the finder is set.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType


class Lent:
    """A finder (`sys.meta_path`) for packages that stay where they are: folders (or single files) by top-level name."""

    def __init__(self, folders: Mapping[str, Path]) -> None:
        self._folders = folders

    def find_spec(
        self,
        name: str,
        path: Sequence[str] | None = None,  # noqa: ARG002  # the protocol's
        target: ModuleType | None = None,  # noqa: ARG002  # the protocol's
    ) -> ModuleSpec | None:
        """The package's spec; its sub-modules are found through its own path."""
        folder = self._folders.get(name)
        if folder is None:
            return None
        if folder.suffix == ".py":
            return importlib.util.spec_from_file_location(name, folder)
        return importlib.util.spec_from_file_location(
            name, folder / "__init__.py", submodule_search_locations=[str(folder)]
        )


def split(arguments: Sequence[str]) -> tuple[dict[str, Path], list[str]]:
    """The packages lent, and the host's own arguments. Raises ValueError for a package without a folder."""
    folders: dict[str, Path] = {}
    rest: list[str] = []
    words = iter(arguments)
    for word in words:
        if word != "--package":
            rest.append(word)
            continue
        name, separator, folder = next(words, "").partition("=")
        if not (name and separator and folder):
            raise ValueError("--package takes NAME=FOLDER")
        folders[name] = Path(folder)
    return folders, rest


def main() -> int:
    """Run the host; its exit status."""
    folders, rest = split(sys.argv[1:])
    sys.meta_path.insert(0, Lent(folders))
    from ironclad.engines.host.__main__ import main as host  # noqa: PLC0415  # found by what was just set up

    return host(rest)


if __name__ == "__main__":
    sys.exit(main())
