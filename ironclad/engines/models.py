"""The model store: weights by engine and name, each file pinned by its SHA-256, shared by every worker.

`models/ENGINE/NAME/` holds the files and `manifest.json`; a folder appears, changes and goes in one rename. The
plugin's declaration says what a model's files must be. Files that are others (a fine-tuned model, a converted one) can
be imported by an operator who says so: then the manifest's digests are the pins, and results are told apart by them.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import json
import secrets
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from ironclad import durable
from ironclad.engines.contract import ModelFile, ModelSpec, is_model_name
from ironclad.errors import (
    AlreadyRunning,
    BadRequest,
    LicenceNotAccepted,
    ModelBroken,
    ModelMismatch,
    ModelMissing,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from ironclad.engines.contract import EngineSpec
    from ironclad.layout import Layout

MANIFEST: Final = "manifest.json"
CONVERTED: Final = "converted"
"""Folder of a model's other forms, in its own."""
_SCHEMA: Final = 1
_CHUNK: Final = 1 << 20
_CLOCK_NS: Final = 2_000_000_000
OWN_LICENCE: Final = "as the operator says"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredModel:
    """A model in the store."""

    engine: str
    name: str
    folder: Path
    files: tuple[ModelFile, ...]
    licence: str
    licence_accepted_at: str
    origin: str
    """Where it came from, in words."""
    imported_at: str
    official: bool
    """Whether the files are the ones that the plugin declares."""
    converted: tuple[ModelFile, ...] = ()
    """Other forms of the same weights, made here by `models convert`, below `converted/`. Pinned like the rest, but
    no part of what the model is: its digest, and so what was separated with it, stays the same."""

    def to_dict(self) -> dict[str, Any]:
        """As JSON-ready data."""
        return {
            "engine": self.engine, "model": self.name, "folder": str(self.folder), "licence": self.licence,
            "licence_accepted_at": self.licence_accepted_at, "origin": self.origin, "imported_at": self.imported_at,
            "official": self.official, "bytes": sum(file.size for file in self.files),
            "files": [_entry(file) for file in self.files], "converted": [_entry(file) for file in self.converted],
        }  # fmt: skip


class ModelStore:
    """The models of one data folder. Holds no state of its own."""

    def __init__(self, layout: Layout) -> None:
        self.root = layout.models

    def folder(self, engine: str, model: str) -> Path:
        """Where a model is, or would be."""
        return self.root / engine / model

    def get(self, engine: str, model: str) -> StoredModel | None:
        """A model that is in the store; None if it is not, or its manifest cannot be read."""
        return _stored(self.folder(engine, model), engine, model)

    def models(self, engine: str) -> list[StoredModel]:
        """Every model of an engine that is in the store, by name."""
        base = self.root / engine
        names = sorted(path.name for path in base.iterdir() if path.is_dir()) if base.is_dir() else []
        found = [self.get(engine, name) for name in names if not durable.is_temporary(name)]
        return [model for model in found if model is not None]

    def effective(self, spec: EngineSpec) -> EngineSpec:
        """The declaration with what the store holds: models imported by the operator, their files, their digests."""
        if not any(model.files for model in spec.models) and not spec.custom_models:
            return spec
        stored = {model.name: model for model in self.models(spec.name)}
        known = [
            replace(model, files=stored.pop(model.name).files) if model.name in stored else model
            for model in spec.models
        ]
        own = [
            ModelSpec(name=model.name, title="imported", licence=model.licence, files=model.files)
            for model in stored.values()
            if spec.custom_models and is_model_name(model.name)  # a folder of another name must not cost the engine
        ]
        return replace(spec, models=(*known, *own))

    def required(self, spec: EngineSpec, model: str = "", *, converted: bool = True) -> Path | None:
        """The folder of a model whose files are all there and unchanged (None: it has no files).

        Reads every byte (0.1 to 0.3 s for 84 MB), again in this process only of what was touched since. Without
        `converted`, only what the converted forms were made from: they can be made again.

        Raises `NotFound`, `ModelMissing` with the command that brings it, `ModelMismatch`.
        """
        chosen = self.effective(spec).model(model)
        if not chosen.files:
            return None
        stored = self.get(spec.name, chosen.name) or self._settled(spec.name, chosen.name)
        if stored is None:
            raise ModelMissing(_how(spec, chosen), engine=spec.name, model=chosen.name)
        words = "`ironclad models verify {}`"
        problems = check(replace(stored, converted=()), digest=_digest)
        if not problems and converted:
            words = "`ironclad models convert {}` makes them again"
            problems = check(replace(stored, files=()), digest=_digest)
        if problems:
            raise ModelMismatch(
                f"{'; '.join(problems)} ({words.format(f'{spec.name} {chosen.name}')})", engine=spec.name,
                model=chosen.name, folder=stored.folder,
            )  # fmt: skip
        return stored.folder

    def add(
        self, spec: EngineSpec, model: str, found: Iterable[tuple[str, Path]], *, origin: str, accept_licence: bool,
        pin: bool = False, progress: Callable[[int, int], None] = lambda _done, _total: None,
    ) -> StoredModel:  # fmt: skip
        """Copy files into the store and pin them. Replaces a model of that name in one step.

        Args:
            spec: the engine, as its plugin declares it.
            model: the model's name; with `pin` and an engine that takes such, any name.
            found: paths in the model's folder, and the files.
            origin: where they came from, in words.
            accept_licence: the operator has accepted the model's licence.
            pin: trust files that are not the declared ones.
            progress: bytes copied, of all.

        Raises `NotFound`, `ModelMismatch`, `LicenceNotAccepted`, `BadRequest`, `DiskFull`.
        """
        declared = next((one for one in spec.models if one.name == model), None)
        if declared is None and not (pin and spec.custom_models):
            spec.model(model)  # raises, with the names there are
        if not is_model_name(model):
            raise BadRequest(f"{model!r} cannot be a model's name: lower-case letters, digits, dots, dashes, no more")
        files = dict(found)
        if not files:
            raise BadRequest(f"there is no file for model {model}")
        if bad := [path for path in files if not _inside(path)]:
            raise BadRequest(f"{bad[0]!r} leads out of the model's folder")
        self._check_licence(spec, declared, model, accept_licence=accept_licence)
        base = self.root / spec.name
        durable.make_dirs(base)
        total, done = sum(path.stat().st_size for path in files.values()), 0
        temporary = base / f".{secrets.token_hex(8)}.tmp"
        try:
            temporary.mkdir()
            pins: list[ModelFile] = []
            for name, source in sorted(files.items()):
                target = temporary / name
                target.parent.mkdir(parents=True, exist_ok=True)
                before = done
                digest = _copy(source, target, lambda count, at=before: progress(at + count, total))  # type: ignore[misc]  # a default binds the loop's value
                done += target.stat().st_size
                pins.append(ModelFile(path=name, size=target.stat().st_size, sha256=digest))
            official = declared is not None and _same(pins, declared.files)
            if not official and not pin:
                raise ModelMismatch(_differences(declared, pins), engine=spec.name, model=model)
            now = datetime.now(UTC).isoformat(timespec="seconds")
            licence = declared.licence if declared is not None else OWN_LICENCE
            stored = StoredModel(
                engine=spec.name, name=model, folder=self.folder(spec.name, model), files=tuple(pins), licence=licence,
                licence_accepted_at=now, origin=origin, imported_at=now, official=official,
            )  # fmt: skip
            durable.write_atomic(
                temporary / MANIFEST, json.dumps({"schema": _SCHEMA, **stored.to_dict()}, indent=1).encode()
            )
            with self._replacing(spec.name):
                durable.commit_folder(temporary, stored.folder)
        except OSError:
            with durable.stored(temporary):
                raise
        finally:
            durable.remove_tree(temporary, reason="not imported")
        return stored

    def add_converted(self, stored: StoredModel, write: Callable[[Path], None]) -> StoredModel:
        """Give a model the other forms of it that `write` puts into an empty folder, each pinned by its SHA-256.

        They replace what was converted before; model and forms appear in one step. Raises what `write` raises,
        `ModelBroken` if it wrote nothing, `ModelMismatch` if the model is another one by now, `DiskFull`.
        """
        temporary = self.root / stored.engine / f".{secrets.token_hex(8)}.tmp"
        made = temporary / CONVERTED
        try:
            made.mkdir(parents=True)
            for file in stored.files:
                target = temporary / file.path
                target.parent.mkdir(parents=True, exist_ok=True)
                durable.link_or_copy(stored.folder / file.path, target)
            write(made)
            pins = tuple(
                ModelFile(
                    path=path.relative_to(temporary).as_posix(), size=path.stat().st_size, sha256=sha256(path)
                )
                for path in sorted(made.rglob("*"))
                if path.is_file()
            )  # fmt: skip
            if not pins:
                raise ModelBroken(f"converting {stored.name} made nothing", engine=stored.engine, model=stored.name)
            result = replace(stored, converted=pins)
            durable.write_atomic(
                temporary / MANIFEST, json.dumps({"schema": _SCHEMA, **result.to_dict()}, indent=1).encode()
            )
            with self._replacing(stored.engine):
                now = self.get(stored.engine, stored.name)
                if now is None or now.files != stored.files:  # converting takes minutes
                    raise ModelMismatch(
                        f"{stored.name} was replaced or removed while it was converted",
                        engine=stored.engine, model=stored.name,
                    )  # fmt: skip
                durable.commit_folder(temporary, stored.folder)
        except OSError:
            with durable.stored(temporary):
                raise
        finally:
            durable.remove_tree(temporary, reason="not converted")
        return result

    def remove(self, engine: str, model: str) -> bool:
        """Remove a model; whether it was there."""
        folder = self.folder(engine, model)
        if not folder.is_dir():
            return False
        with self._replacing(engine):
            durable.remove_tree(folder, reason=f"model {engine}/{model} removed")
        return True

    @contextlib.contextmanager
    def downloads(self, engine: str, model: str) -> Iterator[Path]:
        """A folder for a model's unfinished downloads, for one process at a time; what is in it stays if this fails.

        Raises `AlreadyRunning` while somebody else downloads the same model.
        """
        folder = self.root / ".downloads" / engine / model
        durable.make_dirs(folder)
        with folder.with_name(f".{model}.lock").open("wb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as exc:
                raise AlreadyRunning(f"{model} of engine {engine} is being downloaded by somebody else.") from exc
            yield folder
            durable.remove_tree(folder, reason="in the store")

    def _settled(self, engine: str, model: str) -> StoredModel | None:
        """A model that is not there, looked for again when nobody is replacing it."""
        with contextlib.suppress(OSError), self._replacing(engine):
            return self.get(engine, model)
        return None

    @contextlib.contextmanager
    def _replacing(self, engine: str) -> Iterator[None]:
        """Wait for whoever changes an engine's models in this moment: a folder is replaced in two steps."""
        with (self.root / f".{engine}.lock").open("wb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _check_licence(self, spec: EngineSpec, declared: ModelSpec | None, model: str, *, accept_licence: bool) -> None:
        """Accepted once is accepted: a model that is in the store under the same licence needs no second yes."""
        licence = declared.licence if declared is not None else OWN_LICENCE
        before = self.get(spec.name, model)
        if accept_licence or (before is not None and before.licence == licence):
            return
        raise LicenceNotAccepted(f"{spec.name}/{model}: {licence}", engine=spec.name, model=model)


def digest_in(folder: Path, model: str) -> str | None:
    """Digest (`ModelSpec.digest`) of the model whose folder this is now; None if it is not the store's."""
    stored = _stored(folder, "", model)
    return None if stored is None else ModelSpec(name=model, title="", licence="", files=stored.files).digest


def check(
    stored: StoredModel, progress: Callable[[int], None] = lambda _count: None,
    digest: Callable[[Path, Callable[[int], None]], str] | None = None,
) -> list[str]:  # fmt: skip
    """What is wrong with the files of a model, in words; reads every byte. `progress` gets bytes read."""
    digest = digest or sha256
    problems: list[str] = []
    for file in (*stored.files, *stored.converted):
        path = stored.folder / file.path
        try:
            size = path.stat().st_size
            if size != file.size:
                problems.append(f"{file.path} has {size} bytes, not {file.size}")
            elif digest(path, progress) != file.sha256:
                problems.append(f"{file.path} has another SHA-256 than is pinned")
        except OSError as exc:
            problems.append(f"{file.path}: {exc.strerror}")
    return problems


def sha256(path: Path, progress: Callable[[int], None] = lambda _count: None) -> str:
    """SHA-256 of a file's bytes, in hex."""
    hasher = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            hasher.update(chunk)
            progress(len(chunk))
    return hasher.hexdigest()


def _digest(path: Path, progress: Callable[[int], None]) -> str:
    """SHA-256 of a file's bytes, remembered as long as the file is not touched."""
    found = path.stat()
    if time.time_ns() - found.st_ctime_ns < _CLOCK_NS:  # another change now might leave the same time
        return sha256(path, progress)
    return _remembered(path, (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns))


@functools.lru_cache(maxsize=64)
def _remembered(path: Path, _identity: tuple[int, ...]) -> str:
    return sha256(path)


def _stored(folder: Path, engine: str, model: str) -> StoredModel | None:
    """What the manifest in a folder says; None if it cannot be read."""
    try:
        data = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        if data["schema"] != _SCHEMA:
            return None
        files, converted = (
            tuple(ModelFile(path=f["path"], size=f["size"], sha256=f["sha256"]) for f in data.get(kind, []))
            for kind in ("files", "converted")
        )
        return StoredModel(
            engine=engine, name=model, folder=folder, files=files, licence=data["licence"],
            licence_accepted_at=data["licence_accepted_at"], origin=data["origin"],
            imported_at=data["imported_at"], official=bool(data["official"]),
            converted=converted,
        )  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _entry(file: ModelFile) -> dict[str, Any]:
    return {"path": file.path, "size": file.size, "sha256": file.sha256}


def _copy(source: Path, target: Path, progress: Callable[[int], None]) -> str:
    hasher = hashlib.sha256()
    done = 0
    with source.open("rb") as reader, target.open("xb") as writer:
        while chunk := reader.read(_CHUNK):
            hasher.update(chunk)
            writer.write(chunk)
            done += len(chunk)
            progress(done)
    return hasher.hexdigest()


def _same(pins: Iterable[ModelFile], declared: Iterable[ModelFile]) -> bool:
    return {(file.path, file.sha256) for file in pins} == {(file.path, file.sha256) for file in declared}


def _differences(declared: ModelSpec | None, pins: Iterable[ModelFile]) -> str:
    wanted = {file.path: file for file in declared.files} if declared is not None else {}
    got = {file.path: file for file in pins}
    words = [f"{path} is missing" for path in wanted if path not in got]
    words += [f"{path} does not belong to it" for path in got if path not in wanted]
    words += [
        f"{path} has SHA-256 {got[path].sha256}, not {file.sha256}"
        for path, file in wanted.items()
        if path in got and got[path].sha256 != file.sha256
    ]
    return "; ".join(words) + ". To trust other files of your own, add --pin."


def _how(spec: EngineSpec, model: ModelSpec) -> str:
    size = sum(file.size for file in model.files)
    pull = f"`ironclad models pull {spec.name} {model.name} --accept-licence`"
    local = f"`ironclad models import {spec.name} {model.name} PATH --accept-licence`"
    way = f"{pull}, or without a network {local}" if any(file.sources for file in model.files) else local
    return f"{model.name} of engine {spec.name} ({size / 1e6:.0f} MB; licence: {model.licence}). Run {way}."


def _inside(path: str) -> bool:
    return bool(path) and not path.startswith("/") and not {"..", ""} & set(path.split("/")) and path != MANIFEST
