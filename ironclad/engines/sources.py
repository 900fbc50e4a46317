"""Where a model's files come from: a download that goes on where it stopped, a folder, a file, an archive, a wheel."""

from __future__ import annotations

import contextlib
import shutil
import tarfile
import tempfile
import zipfile
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final

import httpx

from ironclad import durable
from ironclad.engines.models import sha256
from ironclad.errors import BadRequest, ModelMismatch, ModelUnreachable, NotFound

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ironclad.engines.contract import ModelFile, ModelSpec

_CHUNK: Final = 1 << 18
_TIMEOUT: Final = 30.0
_ARCHIVES: Final = (".zip", ".whl", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
_MAX_ARCHIVE: Final = 32 << 30
_PARTIAL: Final = 206
_BEYOND: Final = 416


def download(
    file: ModelFile, target: Path, *, client: httpx.Client | None = None,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> None:  # fmt: skip
    """Fetch one file from the first of its sources that has it, into `target`; what is there is gone on with.

    Raises `NotFound` without sources, `ModelUnreachable` (what came stays for the next try), `ModelMismatch` if what
    came is not the file that is pinned (then nothing of it stays).
    """
    if not file.sources:
        raise NotFound(f"{file.path} has no source to download it from; use `ironclad models import`.")
    size = target.stat().st_size if target.is_file() else None
    if size is not None and file.size in {0, size} and sha256(target) == file.sha256:
        progress(size, size)
        return
    own = client or httpx.Client(timeout=_TIMEOUT, follow_redirects=True)
    problems: list[str] = []
    try:
        for url in file.sources:
            try:
                _fetch(own, url, target, file.size, progress)
            except httpx.HTTPError as exc:
                problems.append(f"{url}: {exc or type(exc).__name__}")
                continue
            if (digest := sha256(target)) == file.sha256:
                return
            durable.remove(target, reason="not the file that is pinned")
            raise ModelMismatch(f"{url} gave SHA-256 {digest}, not {file.sha256}", path=file.path)
    finally:
        if client is None:
            own.close()
    raise ModelUnreachable("; ".join(problems))


def _fetch(client: httpx.Client, url: str, target: Path, size: int, progress: Callable[[int, int], None]) -> None:
    have = target.stat().st_size if target.is_file() else 0
    if have >= size > 0:
        durable.remove(target, reason="longer than the file, or damaged")
        have = 0
    headers = {"Range": f"bytes={have}-", "Accept-Encoding": "identity"} if have else {"Accept-Encoding": "identity"}
    with client.stream("GET", url, headers=headers) as response:
        if response.status_code == _BEYOND:
            raise httpx.TransportError("the server's file is shorter than ours")
        response.raise_for_status()
        if response.status_code != _PARTIAL:
            have = 0
        with durable.stored(target), target.open("ab" if have else "wb") as stream:
            for chunk in response.iter_bytes(_CHUNK):
                have += len(chunk)
                if have > size > 0:
                    raise httpx.TransportError(f"more than the {size} bytes that it should have")
                stream.write(chunk)
                progress(have, size)
    if have < size:
        raise httpx.TransportError(f"it ended after {have} of {size} bytes")


@contextlib.contextmanager
def gathered(source: Path, model: ModelSpec | None, scratch: Path) -> Iterator[list[tuple[str, Path]]]:
    """A model's files out of a file, a folder, a zip, a wheel or a tar, as `(path in the model's folder, file)`.

    With a declared model, its files are looked for by name, wherever they lie; else everything is taken.

    Raises `NotFound`, `BadRequest` for archives that are damaged, too large or lead out of their folder.
    """
    if not source.exists():
        raise NotFound(f"{source} is not there")
    if source.is_file() and source.name.endswith(_ARCHIVES):
        durable.make_dirs(scratch)
        with tempfile.TemporaryDirectory(dir=scratch, prefix=".import.") as folder:
            _unpack(source, Path(folder))
            yield _chosen(Path(folder), model)
    elif source.is_file():
        yield [(source.name, source)]
    else:
        yield _chosen(source, model)


def _chosen(folder: Path, model: ModelSpec | None) -> list[tuple[str, Path]]:
    everything = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != "manifest.json"]
    names = {PurePosixPath(file.path).name: file.path for file in model.files} if model is not None else {}
    declared = [(names[path.name], path) for path in everything if path.name in names]
    if names and len(dict(declared)) == len(names):
        return list(dict(declared).items())
    return [(path.relative_to(folder).as_posix(), path) for path in everything]


def _unpack(archive: Path, folder: Path) -> None:
    try:
        if archive.name.endswith((".zip", ".whl")):
            with zipfile.ZipFile(archive) as zipped:
                _unzip(zipped, folder)
        else:
            with tarfile.open(archive) as tar:
                if sum(member.size for member in tar) > _MAX_ARCHIVE:
                    raise BadRequest(f"{archive.name} unpacks to more than {_MAX_ARCHIVE >> 30} GiB")
                tar.extractall(folder, filter="data")
    except (zipfile.BadZipFile, tarfile.TarError, EOFError) as exc:
        raise BadRequest(f"{archive.name} cannot be unpacked: {exc}") from exc


def _unzip(zipped: zipfile.ZipFile, folder: Path) -> None:
    if sum(info.file_size for info in zipped.infolist()) > _MAX_ARCHIVE:
        raise BadRequest(f"it unpacks to more than {_MAX_ARCHIVE >> 30} GiB")
    for info in zipped.infolist():
        parts = PurePosixPath(info.filename).parts
        if info.is_dir():
            continue
        if info.filename.startswith("/") or ".." in parts:
            raise BadRequest(f"{info.filename!r} leads out of the archive")
        target = folder.joinpath(*parts)
        target.parent.mkdir(parents=True, exist_ok=True)
        with zipped.open(info) as reader, target.open("wb") as writer:
            shutil.copyfileobj(reader, writer, _CHUNK)
