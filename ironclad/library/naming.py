"""Path templates: from a track's fields to its place in the library.

A template is Jinja2 of a small, closed kind: fields, a few filters, `if`. It cannot loop, call, reach attributes or
grow without bound, so a template from a stranger is safe to try. Every field is made a path component before it is put
in, so no tag can add a folder or leave the library.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from jinja2 import StrictUndefined, TemplateError, TemplateSyntaxError, nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

from ironclad.errors import ConfigError
from ironclad.library.names import MAX_COMPONENT, component, file_name, folded, numbered

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

DEFAULT_TEMPLATE = (
    "{{ albumartist }}/"
    "{{ source_album }}{% if stem != 'Instrumental' %} ({{ stems }}){% endif %}/"
    "{% if track is not none %}{% if multidisc %}{{ disc }}-{% endif %}{{ track | pad(2) }} - {% endif %}{{ title }}"
)
"""`Artist/Album/01 - Title (Instrumental)`; `1-01 - …` on albums of several discs. See ADR 10 for the folder's name."""

_MAX_TEMPLATE = 4096
_MAX_TRIES = 10_000
_MAX_VALUE = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackName:
    """The fields of a template. Missing text is empty here and "Unknown …" in paths; missing numbers are None."""

    artist: str = ""
    albumartist: str = ""
    album: str = ""
    source_album: str = ""
    """The album of the recording that this one was derived from."""
    title: str = ""
    source_title: str = ""
    track: int | None = None
    tracktotal: int | None = None
    disc: int | None = None
    disctotal: int | None = None
    date: str = ""
    originaldate: str = ""
    genre: str = ""
    composer: str = ""
    compilation: bool = False
    stem: str = ""
    """Instrumental, Vocals, Drums, …"""
    stems: str = ""
    """The plural: Instrumentals."""
    engine: str = ""
    format: str = ""
    """flac, mp3, …"""
    user: str = ""


_UNKNOWN = {
    "artist": "Unknown Artist",
    "albumartist": "Unknown Artist",
    "album": "Unknown Album",
    "source_album": "Unknown Album",
    "title": "Unknown Title",
    "source_title": "Unknown Title",
}
_TEXT_FIELDS = tuple(f.name for f in fields(TrackName) if f.type == "str")
_VARIOUS_ARTISTS = "Various Artists"
_DERIVED = frozenset({"multidisc", "year", "originalyear"})
KNOWN_FIELDS = frozenset({*(f.name for f in fields(TrackName)), *_DERIVED})
"""Every name that a template may use."""

_ALLOWED_NODES = (
    nodes.Template, nodes.Output, nodes.TemplateData, nodes.Name, nodes.Const, nodes.If, nodes.CondExpr, nodes.Compare,
    nodes.Operand, nodes.And, nodes.Or, nodes.Not, nodes.Filter, nodes.Test, nodes.Concat,
)  # fmt: skip
_TESTS = (
    "none",
    "defined",
    "undefined",
    "true",
    "false",
    "odd",
    "even",
    "divisibleby",
    "eq",
    "ne",
    "gt",
    "lt",
    "ge",
    "le",
    "in",
)
_FILTERS = ("default", "d", "lower", "upper", "title", "capitalize", "trim", "truncate", "first")


FILTERS = frozenset({*_FILTERS, "pad", "replace"})
"""Every filter that a template may use."""


def _pad(value: Any, width: int = 2) -> str:
    """A number with leading zeros; anything else, and missing numbers, unchanged."""
    if value is None:
        return ""
    return str(value).zfill(min(width, 9)) if isinstance(value, int) else str(value)


def _replace(text: Any, old: str, new: str) -> str:
    """Text with each `old` as `new`; bounded, because a chain of these could grow without end."""
    return str(text).replace(old, new)[:_MAX_VALUE] if old else str(text)


def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(undefined=StrictUndefined, autoescape=False)
    environment.filters = {name: environment.filters[name] for name in _FILTERS} | {"pad": _pad, "replace": _replace}
    environment.tests = {name: test for name, test in environment.tests.items() if name in _TESTS}
    environment.globals.clear()
    return environment


class PathTemplate:
    """A checked template. Raises `ConfigError`, with line and column, for one that cannot work."""

    def __init__(self, source: str = DEFAULT_TEMPLATE) -> None:
        self.source = source
        environment = _environment()
        if len(source) > _MAX_TEMPLATE:
            raise ConfigError(f"the path template is longer than {_MAX_TEMPLATE} characters")
        try:
            tree = environment.parse(source)
            _check(tree, source)
            self._template = environment.from_string(source)
        except TemplateSyntaxError as exc:
            raise _at(source, exc.lineno, "", exc.message or "syntax error") from exc
        self.render(TrackName(), ".flac")  # what fails for every track fails now

    def render(self, track: TrackName, suffix: str) -> PurePosixPath:
        """The track's path below the library, with `suffix` (".flac"). Raises `ConfigError` when the template fails."""
        try:
            text = self._template.render(_context(track))
        except (TemplateError, TypeError, ValueError) as exc:
            raise ConfigError(f"the path template fails: {exc}", template=self.source) from exc
        *folders, stem = text.split("/")
        parts = [component(folder) for folder in folders if folder.strip()]
        return PurePosixPath(*parts, file_name(stem, suffix, fallback=_UNKNOWN["title"]))


def _context(track: TrackName) -> dict[str, Any]:
    values: dict[str, Any] = {f: getattr(track, f) for f in _ALL_FIELDS}
    for name in _TEXT_FIELDS:
        text = values[name]
        values[name] = component(text, fallback=_UNKNOWN.get(name, "")) if text else _UNKNOWN.get(name, "")
    if not track.albumartist:
        values["albumartist"] = _VARIOUS_ARTISTS if track.compilation else values["artist"]
    values["year"] = track.date[:4]
    values["originalyear"] = (track.originaldate or track.date)[:4]
    values["multidisc"] = (track.disctotal or 0) > 1 or (track.disc or 0) > 1
    return values


_ALL_FIELDS = tuple(f.name for f in fields(TrackName))


def _check(tree: nodes.Template, source: str) -> None:
    for node in _walk(tree):
        if not isinstance(node, _ALLOWED_NODES):
            word = type(node).__name__
            raise _at(source, node.lineno, "", f"{word.lower()} is not allowed in a path template")
        if isinstance(node, nodes.Name) and node.name not in KNOWN_FIELDS:
            known = ", ".join(sorted(KNOWN_FIELDS))
            raise _at(source, node.lineno, node.name, f"there is no field {node.name!r}; there are {known}")
        if isinstance(node, nodes.TemplateData) and "\\" in node.data:
            raise _at(source, node.lineno, "\\", "folders are separated by /")


def _walk(node: nodes.Node) -> Iterator[nodes.Node]:
    yield node
    for child in node.iter_child_nodes():
        yield from _walk(child)


def _at(source: str, line: int, word: str, message: str) -> ConfigError:
    """The error with its place: line, and column of the word where it is known, both from 1."""
    text = source.splitlines()[line - 1] if 0 < line <= len(source.splitlines()) else ""
    match = re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text) if word else None
    column = match.start() + 1 if match else 1
    return ConfigError(
        f"path template, line {line}, column {column}: {message}", line=line, column=column, template=source
    )


def unique(path: PurePosixPath, taken: Callable[[PurePosixPath], bool]) -> PurePosixPath:
    """`path`, or the first of `… (2)`, `… (3)` that is not taken. `taken` should compare without case (`folded`)."""
    if not taken(path):
        return path
    for number in range(2, _MAX_TRIES):
        candidate = path.with_name(numbered(path.name, number, MAX_COMPONENT))
        if not taken(candidate):
            return candidate
    raise ConfigError(f"ten thousand tracks want to be called {path}", template="")


class Shelf:
    """Places tracks one after another: no two get one place, and folders that differ in case only become one.

    The first spelling of a folder wins, because case-insensitive servers would show the others' tracks in it anyway.
    """

    def __init__(self, existing: Iterable[PurePosixPath] = ()) -> None:
        self._files: set[str] = set()
        self._folders: dict[str, PurePosixPath] = {}
        for path in existing:
            self._folder(path.parent)
            self._files.add(folded(str(path)))

    def place(self, path: PurePosixPath) -> PurePosixPath:
        """Reserve a place for `path` and return it."""
        wanted = self._folder(path.parent) / path.name
        free = unique(wanted, lambda candidate: folded(str(candidate)) in self._files)
        self._files.add(folded(str(free)))
        return free

    def _folder(self, folder: PurePosixPath) -> PurePosixPath:
        known = self._folders.get(str(folder))
        if known is not None:
            return known
        if folder == folder.parent:
            return folder
        spelled = self._folder(folder.parent) / folder.name
        spelled = self._folders.setdefault(folded(str(spelled)), spelled)
        self._folders[str(folder)] = spelled
        return spelled


def plan(
    template: PathTemplate, tracks: Iterable[tuple[TrackName, str]], existing: Iterable[PurePosixPath] = ()
) -> list[PurePosixPath]:
    """The place of each (track, suffix), in order, none equal to another or to an existing one, case aside."""
    shelf = Shelf(existing)
    return [shelf.place(template.render(track, suffix)) for track, suffix in tracks]


def track_name(values: Mapping[str, Any]) -> TrackName:
    """A `TrackName` of a mapping that may have more keys; None becomes what is missing."""
    known = {f: values[f] for f in _ALL_FIELDS if values.get(f) is not None}
    return TrackName(**known)
