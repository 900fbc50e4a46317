"""A song on its way in: streamed into a hidden folder of its own, whole or not at all.

The folder is `uploads/.HEX.part/`, and the song lies in it under its own name, which names its job. A claim takes the
song out with one rename, and the folder goes. What a kill leaves there is found by `ironclad.ops.orphans`.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import secrets
from typing import TYPE_CHECKING, Any, Final

import anyio.to_thread

from ironclad import durable
from ironclad.api.closing import Closed
from ironclad.errors import (
    BadRequest,
    DigestMismatch,
    DiskFull,
    RequestTimeout,
    Stopping,
    TooLarge,
    UnsafePath,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

    from starlette.requests import Request

    from ironclad.api.context import Context
    from ironclad.config import Settings

_WRITE_BYTES: Final = 1 << 20
_LOOK_BYTES: Final = 16 << 20
_NAME_BYTES: Final = 255
SILENCE_SECONDS: Final = 60.0
"""A client that sends nothing for so long is given up."""
_DIGEST: Final = re.compile(r"(?:^|[,\s])(sha-256|sha-512)=:([A-Za-z0-9+/]*={0,2}):")
_HASHES: Final[Mapping[str, str]] = {"sha-256": "sha256", "sha-512": "sha512"}


def checked_name(name: str, max_path_bytes: int) -> str:
    """The name of a song, perhaps with folders before it, as a path below its user's folder.

    Raises `UnsafePath` for one that leads elsewhere, `BadRequest` for one that no file system takes.
    """
    parts = name.split("/")
    if any(part in {"", ".", ".."} for part in parts):
        raise UnsafePath("The name must be that of a file, perhaps with folders before it: Album/01 Blue.flac.")
    if "\x00" in name:
        raise BadRequest("The name holds a NUL character.")
    if any(len(part.encode("utf-8", "surrogatepass")) > _NAME_BYTES for part in parts):
        raise BadRequest(f"A part of the name is longer than {_NAME_BYTES} bytes.")
    if len(name.encode("utf-8", "surrogatepass")) > max_path_bytes:
        raise BadRequest(f"The name is longer than ingest.max_path_bytes ({max_path_bytes}).")
    return name


class Upload:
    """The file that a song is written into.

    Args:
        uploads: the folder of all uploads.
        name: the song's name, folders before it aside.
    """

    def __init__(self, uploads: Path, name: str) -> None:
        self.folder = uploads / f".{secrets.token_hex(8)}.part"
        self.path = self.folder / name
        self._file: Any = None

    def open(self) -> None:
        """Make folder and file."""
        durable.make_dirs(self.folder.parent)
        with durable.stored(self.folder):
            self.folder.mkdir(mode=0o700)
            self._file = self.path.open("xb", buffering=0)

    def write(self, data: bytes) -> None:
        """Append. Raises `DiskFull`, `StorageError`."""
        with durable.stored(self.path):
            left = memoryview(data)
            while left:
                left = left[self._file.write(left) :]

    def close(self) -> None:
        """No more is written: the claim asks whether anybody still has the file open for writing, and flushes it."""
        if self._file is not None:
            self._file.close()

    def drop(self) -> None:
        """Remove what is left of it."""
        self.close()
        durable.remove_tree(self.folder, reason="an upload that has ended")


class Digests:
    """The digests that a client sent (RFC 9530), and those of what arrived.

    Args:
        headers: of the request; `Repr-Digest` and `Content-Digest`, of which SHA-256 and SHA-512 are looked at.

    Raises `BadRequest` for one that cannot be read.
    """

    def __init__(self, headers: Mapping[str, str]) -> None:
        self._wanted: list[tuple[str, bytes]] = []
        for header in ("repr-digest", "content-digest"):
            for name, value in _DIGEST.findall(headers.get(header, "")):
                try:
                    self._wanted.append((name, base64.b64decode(value, validate=True)))
                except binascii.Error as exc:
                    raise BadRequest(f"{header} is not base64.") from exc
            if header in headers and not self._wanted:
                raise BadRequest(f"{header} holds neither sha-256=:…: nor sha-512=:…:.")
        self._made = {name: hashlib.new(_HASHES[name]) for name, _ in self._wanted}

    def update(self, data: bytes) -> None:
        """More has arrived."""
        for made in self._made.values():
            made.update(data)

    def check(self) -> None:
        """Raise `DigestMismatch` unless all are the same."""
        for name, wanted in self._wanted:
            if not hmac.compare_digest(self._made[name].digest(), wanted):
                raise DigestMismatch(f"Its {name} is {self._made[name].hexdigest()}.")


def ensure_room(settings: Settings, more: int) -> None:
    """Raise `DiskFull` if so many bytes more would break the disk floor."""
    folder = settings.layout.uploads
    free = durable.free_bytes(folder)
    if free - more < settings.disk.min_free_bytes:
        raise DiskFull(f"{folder} has {free} bytes free, and the floor is {settings.disk.min_free_bytes}.")


async def receive(request: Request, context: Context, upload: Upload) -> None:
    """Write the body of a request into an upload, and check it.

    Raises:
        TooLarge: it is larger than limits.max_bytes; said by Content-Length, or found out.
        DiskFull: the disk floor would be broken.
        DigestMismatch: not what was sent.
        RequestTimeout: the client fell silent.
        Stopping: the service stops.
        ClientDisconnect: the client went away.
    """
    settings = context.settings
    limit = settings.limits.max_bytes
    digests = Digests(request.headers)
    announced = request.headers.get("content-length", "")
    expected = int(announced) if announced.isdecimal() else 0
    if expected > limit:
        raise TooLarge(f"{expected} bytes; the limit is {limit}.")
    await anyio.to_thread.run_sync(ensure_room, settings, expected)
    await anyio.to_thread.run_sync(upload.open)
    count = context.metrics.counter("ironclad_api_upload_bytes_total")
    size = looked = 0
    async for block in _blocks(request, context):
        count.inc(len(block))
        size += len(block)
        if size > limit:
            raise TooLarge(f"More than {limit} bytes.")
        if size - looked >= _LOOK_BYTES:
            looked = size
            await anyio.to_thread.run_sync(ensure_room, settings, max(0, expected - size))
        await anyio.to_thread.run_sync(_keep, upload, digests, block)
    await anyio.to_thread.run_sync(upload.close)
    digests.check()


def _keep(upload: Upload, digests: Digests, block: bytes) -> None:
    upload.write(block)
    digests.update(block)


async def _blocks(request: Request, context: Context) -> AsyncIterator[bytes]:
    """The body in blocks that are worth a write."""
    stream = aiter(request.stream())
    block = bytearray()
    while True:
        try:
            part = await context.closing.first(anext(stream, None), SILENCE_SECONDS)
        except TimeoutError as exc:
            raise RequestTimeout(f"Nothing came for {SILENCE_SECONDS:.0f} s.") from exc
        except Closed as exc:
            raise Stopping from exc
        if part is None:
            break
        block += part
        if len(block) >= _WRITE_BYTES:
            yield bytes(block)
            block.clear()
    if block:
        yield bytes(block)
