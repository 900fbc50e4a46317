"""`ironclad plugins new`: a package that works as it is written, with tests, for its author to change.

The files are in `templates/KIND/`, and in `templates/any/` for every kind; `$word` stands for a word of the new
package, the folder MODULE for its module.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from importlib import metadata, resources
from string import Template
from typing import TYPE_CHECKING, Final

from ironclad import durable
from ironclad.errors import BadRequest
from ironclad.plugins import hookspecs
from ironclad.plugins.manager import installed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from importlib.resources.abc import Traversable
    from pathlib import Path

KINDS: Final = ("engine", "notifier")
_ANY: Final = "any"
_OURS: Final = frozenset({"apprise"})
"""Names that are taken without being a plugin's: channels of that type would never reach one."""
_SUFFIX: Final = ".tmpl"
_MODULE: Final = "MODULE"
_NAME: Final = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_LONGEST: Final = 30


@dataclass(frozen=True, slots=True)
class Written:
    """A new package."""

    name: str
    distribution: str
    folder: Path
    files: tuple[str, ...]
    """Paths in the folder."""


def write(kind: str, name: str, parent: Path) -> Written:
    """Write the package `parent/ironclad-KIND-NAME`, whole or not at all.

    Raises `BadRequest` for a name that is none or is taken, for a folder that is there already and for a parent that is
    not; `DiskFull` and other storage errors.
    """
    words = _words(kind, name)
    folder = parent / words["distribution"]
    if not parent.is_dir():
        raise BadRequest(f"{parent} is not a folder.")
    if folder.exists() or folder.is_symlink():
        raise BadRequest(f"{folder} is there already; nothing was written.")
    temporary = parent / f".{words['distribution']}.{secrets.token_hex(4)}.tmp"
    templates = resources.files("ironclad.plugins") / "templates"
    files = {path: text for part in (_ANY, kind) for path, text in _files(templates / part, words)}
    try:
        for path, text in files.items():
            durable.make_dirs((temporary / path).parent)
            durable.write_atomic(temporary / path, text.encode())
        durable.move_folder(temporary, folder)
    except FileExistsError as exc:
        raise BadRequest(f"{folder} is there already; nothing was written.") from exc
    finally:
        durable.remove_tree(temporary, reason="not finished")
    return Written(name, words["distribution"], folder, tuple(sorted(files)))


def _words(kind: str, name: str) -> dict[str, str]:
    """What the templates fill in. Raises `BadRequest` for a name that cannot be."""
    if kind not in KINDS:
        raise BadRequest(f"there are templates for {', '.join(KINDS)}, not for {kind!r}")
    if not _NAME.fullmatch(name) or len(name) > _LONGEST:
        raise BadRequest(
            f"{name!r} is no name for a plugin: lower-case letters, digits and single dashes, beginning with a letter, "
            f"{_LONGEST} characters at most."
        )
    if name in {entry.name for entry in installed()} | _OURS:
        raise BadRequest(f"A plugin called {name!r} is installed here; two of one name do not load.")
    module = f"ironclad_{kind}_{name.replace('-', '_')}"
    return {
        "kind": kind, "name": name, "distribution": f"ironclad-{kind}-{name}", "module": module,
        "class_name": "".join(part.capitalize() for part in name.split("-")),
        "api": str(hookspecs.API_VERSION), "numpy": metadata.version("numpy"),
    }  # fmt: skip


def _files(folder: Traversable, words: Mapping[str, str], path: str = "") -> Iterator[tuple[str, str]]:
    """Paths and texts of a template's files, filled in."""
    for entry in folder.iterdir():
        name = words["module"] if entry.name == _MODULE else entry.name.removesuffix(_SUFFIX)
        here = f"{path}/{name}" if path else name
        if entry.is_dir():
            yield from _files(entry, words, here)
        elif entry.name.endswith(_SUFFIX):
            yield here, Template(entry.read_text(encoding="utf-8")).substitute(words)
