"""Reads one file's tags and pictures. Runs in a limited child process: the file is untrusted, so are its parsers."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mutagen
from mutagen.apev2 import APENoHeaderError, APEv2, APEv2File
from mutagen.asf import ASF
from mutagen.flac import FLAC
from mutagen.id3 import ID3, ID3NoHeaderError, ID3Tags
from mutagen.mp4 import MP4
from mutagen.ogg import OggFileType
from mutagen.oggopus import OggOpus

from ironclad.metadata import images
from ironclad.metadata.caps import Caps
from ironclad.metadata.collect import Collector
from ironclad.metadata.containers import ape, asf, id3, mp4, opus, riff, vorbis
from ironclad.metadata.fields import build

if TYPE_CHECKING:
    from collections.abc import Callable

    from ironclad.metadata.model import Picture


def main(request: dict[str, Any], _report: Callable[[float], None]) -> dict[str, Any]:
    """Target of the sandbox. Request: `path`, `folder` (for pictures), `caps`; reply: the JSON form of a `Reading`."""
    return read_file(Path(request["path"]), Path(request["folder"]), Caps(**request["caps"]))


def many(request: dict[str, Any], report: Callable[[float], None]) -> dict[str, Any]:
    """Target of the sandbox. Request: `paths`, `caps`; reply: `files`, a `Reading` without pictures for each."""
    paths, caps = request["paths"], Caps(**request["caps"])
    files = []
    for number, path in enumerate(paths, start=1):
        container, found = collect(Path(path), caps)
        files.append(_reply(container, found, []))
        report(number / len(paths))
    return {"files": files}


def read_file(path: Path, folder: Path, caps: Caps) -> dict[str, Any]:
    """Tags, pictures (written to `folder`, which must exist), problems and the container's name, as JSON-ready data."""
    container, found = collect(path, caps)
    stored = [
        picture.stored(folder / f"picture-{number:02}{images.SUFFIXES[picture.mime]}")
        for number, picture in enumerate(found.pictures)
    ]
    return _reply(container, found, stored)


def _reply(container: str, found: Collector, pictures: list[Picture]) -> dict[str, Any]:
    tags = build(found.raw())
    return {
        "container": container,
        "tags": tags.to_dict(),
        "pictures": [picture.to_dict() for picture in pictures],
        "problems": [problem.to_dict() for problem in found.problems],
    }


def collect(path: Path, caps: Caps) -> tuple[str, Collector]:
    """Everything that any tag of the file says; the container's own tag wins over strays (ID3 over APE in an MP3)."""
    found = Collector(caps)
    file = _attempt(found, "container", partial(mutagen.File, path))
    container = type(file).__name__ if file is not None else ""
    readers: list[tuple[str, Callable[[Collector], None]]] = [
        (source, partial(read, path))
        for source, read in (
            ("ID3", _read_id3),
            ("APEv2", _read_ape),
            ("RIFF INFO", _read_riff),
            ("Matroska", _read_matroska),
        )
        if not _holds(file, source)
    ]
    if file is not None and file.tags is not None:
        # An ID3v1 tag cuts everything after 30 letters: any other tag knows better.
        last = isinstance(file.tags, ID3) and file.tags.version[0] == 1
        readers.insert(len(readers) if last else 0, (container, partial(_read_tags, file)))
    for source, read in readers:
        tag = Collector(caps)
        _attempt(tag, source, partial(read, tag))
        found.absorb(tag)
    return container, found


def _attempt(found: Collector, what: str, read: Callable[[], Any]) -> Any:
    """Call a parser; whatever it raises on this file becomes a problem, because tags never fail a job."""
    try:
        return read()
    except MemoryError:
        raise
    except Exception as exc:  # noqa: BLE001 -- parsers of untrusted bytes raise anything: struct.error, IndexError, …
        found.problem("unreadable", "", f"{what}: {type(exc).__name__}: {exc}")
        return None


def _holds(file: Any, source: str) -> bool:
    """Whether the container's own reader has read this kind of tag already."""
    match source:
        case "ID3":
            return isinstance(getattr(file, "tags", None), ID3Tags)
        case "APEv2":
            return isinstance(file, APEv2File | ASF | MP4 | OggFileType)
        case "Matroska":
            return file is not None
        case _:
            return False


def _read_tags(file: Any, found: Collector) -> None:
    tags: Any = file.tags
    match file:
        case FLAC():
            vorbis.read(list(tags), file.pictures, found)
        case OggOpus():
            vorbis.read(opus.from_r128(list(tags)), (), found)
        case OggFileType():
            vorbis.read(list(tags), (), found)
        case MP4():
            mp4.read(tags, found)
        case ASF():
            asf.read(list(tags), found)
        case _ if isinstance(tags, ID3Tags):
            id3.read(tags, found)
        case _ if isinstance(tags, APEv2):
            ape.read(list(tags.items()), found)
        case _:
            found.problem("not-carried", "", f"tags of {type(file).__name__} files have no reader")


def _read_id3(path: Path, found: Collector) -> None:
    try:
        id3.read(ID3(path), found)
    except ID3NoHeaderError:
        return


def _read_ape(path: Path, found: Collector) -> None:
    try:
        ape.read(list(APEv2(path).items()), found)
    except APENoHeaderError:
        return


def _read_riff(path: Path, found: Collector) -> None:
    with path.open("rb") as file:
        riff.read(file, found)


def _read_matroska(path: Path, found: Collector) -> None:
    with path.open("rb") as file:
        if file.read(4) != b"\x1a\x45\xdf\xa3":
            return
    from ironclad.metadata.containers import matroska  # noqa: PLC0415 -- FFmpeg's libraries, for few files

    matroska.read(path, found)
