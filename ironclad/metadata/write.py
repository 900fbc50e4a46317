"""Writes tags and pictures into a finished file of ours: flac, mp3, m4a, ogg, opus, wav. Same input, same bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import mutagen
from mutagen.flac import FLAC
from mutagen.id3 import ID3
from mutagen.mp4 import MP4
from mutagen.oggopus import OggOpus
from mutagen.oggvorbis import OggVorbis
from mutagen.wave import WAVE

from ironclad.errors import BadRequest, OutputInvalid
from ironclad.metadata.containers import id3_write, mp4, ogg, opus, vorbis
from ironclad.metadata.fields import Raw, flatten
from ironclad.metadata.model import PictureType

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from ironclad.metadata.model import Picture, TrackTags
    from ironclad.metadata.report import Loss

Pictures = tuple["Picture", ...]
_PADDING = 4096
_ID3_VERSION = 4


def write_tags(path: Path, tags: TrackTags, pictures: Iterable[Picture] = ()) -> tuple[Loss, ...]:
    """Replace all tags and pictures of `path`, told by its suffix, and return what the format could not hold.

    The file is changed in place: call this on a file that nobody else sees yet. The front cover comes first, for
    players that show the first picture. Pictures other than JPEG and PNG: see `ironclad.metadata.convert`.

    Raises `BadRequest` for a suffix that has no writer and `OutputInvalid` when the file is not of its suffix's format.
    """
    writer = _WRITERS.get(path.suffix.lower())
    if writer is None:
        raise BadRequest(f"tags cannot be written to {path.suffix or 'a file without a suffix'}", path=path)
    ordered = tuple(sorted(pictures, key=lambda picture: picture.type != PictureType.FRONT_COVER))
    try:
        return tuple(writer(path, flatten(tags), ordered))
    except mutagen.MutagenError as exc:
        raise OutputInvalid(f"tags of {path.name} could not be written: {exc}", path=path) from exc


def _padding(_info: Any) -> int:
    """Room for later edits by the user's programs; constant, so that the bytes depend on the tags alone."""
    return _PADDING


def _write_flac(path: Path, raw: Raw, pictures: Pictures) -> list[Loss]:
    audio = FLAC(path)
    audio.delete()
    audio.clear_pictures()
    if audio.tags is None:
        audio.add_tags()
    vorbis.write(raw, audio.tags)
    blocks, losses = vorbis.blocks(pictures)
    for block in blocks:
        audio.add_picture(block)
    audio.save(padding=_padding)
    return losses


def _write_ogg(path: Path, raw: Raw, pictures: Pictures) -> list[Loss]:
    return _write_comments(path, OggVorbis(path), raw, pictures)


def _write_opus(path: Path, raw: Raw, pictures: Pictures) -> list[Loss]:
    own, losses = opus.to_r128(raw)
    return losses + _write_comments(path, OggOpus(path), own, pictures)


def _write_comments(path: Path, audio: Any, raw: Raw, pictures: Pictures) -> list[Loss]:
    audio.tags.clear()
    vorbis.write(raw, audio.tags)
    blocks, losses = vorbis.encoded(pictures)
    if blocks:
        audio.tags[vorbis.PICTURE_KEY] = blocks
    audio.save(padding=_padding)
    ogg.settle_serial(path)
    return losses


def _write_mp3(path: Path, raw: Raw, pictures: Pictures) -> list[Loss]:
    tags = ID3()
    losses = id3_write.write(raw, pictures, tags)
    tags.save(path, v1=0, v2_version=_ID3_VERSION, padding=_padding)
    return losses


def _write_wav(path: Path, raw: Raw, pictures: Pictures) -> list[Loss]:
    audio = WAVE(path)
    if audio.tags is None:
        audio.add_tags()
    tags: Any = audio.tags
    tags.clear()
    losses = id3_write.write(raw, pictures, tags)
    tags.save(path, v2_version=_ID3_VERSION, padding=_padding)
    return losses


def _write_m4a(path: Path, raw: Raw, pictures: Pictures) -> list[Loss]:
    audio = MP4(path)
    if audio.tags is None:
        audio.add_tags()
    tags: Any = audio.tags
    # The gapless atom belongs to these samples, and the encoder wrote it.
    kept = {atom: values for atom, values in tags.items() if atom.endswith(":iTunSMPB")}
    tags.clear()
    losses = mp4.write(raw, pictures, tags)
    tags.update(kept)
    audio.save(padding=_padding)
    return losses


_WRITERS: dict[str, Callable[[Path, Raw, Pictures], list[Loss]]] = {
    ".flac": _write_flac,
    ".ogg": _write_ogg,
    ".opus": _write_opus,
    ".mp3": _write_mp3,
    ".wav": _write_wav,
    ".m4a": _write_m4a,
}

FORMATS = frozenset(suffix[1:] for suffix in _WRITERS)
"""Names of the formats that tags can be written to."""
