from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
import zipfile
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from ironclad import durable
from ironclad.engines import models, sources
from ironclad.engines.contract import EngineSpec, MemoryModel, ModelFile, ModelSpec
from ironclad.engines.models import MANIFEST, ModelStore, check
from ironclad.errors import (
    AlreadyRunning,
    BadRequest,
    LicenceNotAccepted,
    ModelBroken,
    ModelMismatch,
    ModelMissing,
    NotFound,
)
from ironclad.layout import Layout

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ONE, TWO = b"first" * 1000, b"second" * 1000


def declared(path: str, content: bytes, *urls: str) -> ModelFile:
    return ModelFile(path=path, size=len(content), sha256=hashlib.sha256(content).hexdigest(), sources=urls)


SPEC = EngineSpec(
    name="waves", title="Waves", version="1", api_version=1, entry="waves:Waves", stems=("vocals", "rest"),
    models=(
        ModelSpec(
            name="big", title="Big", licence="CC BY-NC 4.0",
            files=(declared("a.bin", ONE, "https://example.org/a.bin"), declared("sub/b.bin", TWO)),
        ),
        ModelSpec(name="bare", title="Needs none", licence="MIT"),
    ),
    memory=MemoryModel(base=1), custom_models=True,
)  # fmt: skip


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(Layout(tmp_path / "data"))


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    folder = tmp_path / "brought"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.bin").write_bytes(ONE)
    (folder / "sub/b.bin").write_bytes(TWO)
    return {"a.bin": folder / "a.bin", "sub/b.bin": folder / "sub/b.bin"}


@pytest.fixture
def add(store: ModelStore, files: dict[str, Path]) -> Callable[..., Any]:
    def run(model: str = "big", **changes: Any) -> Any:
        given = {"found": files.items(), "origin": "here", "accept_licence": True, **changes}
        return store.add(SPEC, model, **given)

    return run


def test_a_model_comes_in_whole_and_is_found(store: ModelStore, add: Callable[..., Any]) -> None:
    steps: list[tuple[int, int]] = []
    made = add(progress=lambda done, total: steps.append((done, total)))
    assert made == store.get("waves", "big")
    assert made.official
    assert steps[-1] == (11000, 11000)
    folder = store.required(SPEC, "big")
    assert folder is not None
    assert (folder / "sub/b.bin").read_bytes() == TWO
    assert [model.name for model in store.models("waves")] == ["big"]
    assert sorted(path.name for path in (store.root / "waves").iterdir()) == ["big"]
    assert store.effective(SPEC).model("big").digest == SPEC.model("big").digest
    assert store.remove("waves", "big")
    assert not store.remove("waves", "big")


def test_a_missing_model_is_named_with_the_command_that_brings_it(store: ModelStore) -> None:
    with pytest.raises(ModelMissing, match="`ironclad models pull waves big --accept-licence`") as caught:
        store.required(SPEC)
    assert "ironclad models import waves big PATH" in str(caught.value)
    assert caught.value.context["model"] == "big"
    assert store.required(SPEC, "bare") is None
    with pytest.raises(NotFound, match="it has big, bare"):
        store.required(SPEC, "huge")


def test_a_licence_is_accepted_once(store: ModelStore, add: Callable[..., Any]) -> None:
    with pytest.raises(LicenceNotAccepted, match="CC BY-NC"):
        add(accept_licence=False)
    assert store.models("waves") == []
    add()
    assert add(accept_licence=False).licence == "CC BY-NC 4.0"


def test_other_files_are_refused_unless_they_are_pinned(
    store: ModelStore, add: Callable[..., Any], files: dict[str, Path]
) -> None:
    files["a.bin"].write_bytes(ONE[:-1] + b"T")
    with pytest.raises(ModelMismatch, match=r"a\.bin has SHA-256 .*add --pin"):
        add()
    with pytest.raises(ModelMismatch, match=r"sub/b\.bin is missing"):
        add(found=[("a.bin", files["a.bin"])])
    with pytest.raises(ModelMismatch, match="extra does not belong"):
        add(found=[*files.items(), ("extra", files["a.bin"])])
    assert list((store.root / "waves").iterdir()) == []
    made = add(pin=True)
    assert not made.official
    assert store.effective(SPEC).model("big").digest not in {"", SPEC.model("big").digest}
    assert store.required(SPEC, "big") == made.folder


def test_a_model_of_ones_own_becomes_part_of_the_engine(
    store: ModelStore, add: Callable[..., Any], files: dict[str, Path]
) -> None:
    with pytest.raises(NotFound):
        add("mine")
    add("mine", pin=True, found=[("w.bin", files["a.bin"])])
    spec = store.effective(SPEC)
    assert [model.name for model in spec.models] == ["big", "bare", "mine"]
    before = spec.result_key("mine", {})
    files["a.bin"].write_bytes(TWO)
    add("mine", pin=True, found=[("w.bin", files["a.bin"])])
    assert store.effective(SPEC).result_key("mine", {}) != before
    assert store.required(SPEC, "mine") == store.folder("waves", "mine")
    closed = replace(SPEC, custom_models=False)
    assert [model.name for model in store.effective(closed).models] == ["big", "bare"]


def test_engines_without_models_need_no_store(store: ModelStore) -> None:
    plain = replace(SPEC, models=SPEC.models[1:], custom_models=False)
    assert store.effective(plain) is plain
    assert not store.root.exists()


@pytest.mark.parametrize("damage", ["flip", "cut", "gone"])
def test_one_flipped_bit_is_found(damage: str, store: ModelStore, add: Callable[..., Any]) -> None:
    made = add()
    path = made.folder / "a.bin"
    data = bytearray(ONE)
    data[777] ^= 1
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(data if damage == "flip" else ONE[:-1])
    with pytest.raises(ModelMismatch, match=r"a\.bin.*ironclad models verify waves big"):
        store.required(SPEC, "big")
    assert len(check(made)) == 1


@pytest.mark.parametrize("path", ["../x", "/x", "a/../../x", "", "a//b", MANIFEST])
def test_files_stay_in_the_folder(path: str, add: Callable[..., Any], files: dict[str, Path]) -> None:
    with pytest.raises(BadRequest, match="leads out"):
        add(found=[(path, files["a.bin"])], pin=True)


def test_a_manifest_of_no_use_is_a_missing_model(store: ModelStore, add: Callable[..., Any]) -> None:
    made = add()
    manifest = made.folder / MANIFEST
    good = json.loads(manifest.read_text())
    for text in ("{", "[]", json.dumps({**good, "schema": 9}), json.dumps({**good, "files": [{}]})):
        manifest.write_text(text)
        with pytest.raises(ModelMissing):
            store.required(SPEC, "big")


def test_nothing_to_import(add: Callable[..., Any]) -> None:
    with pytest.raises(BadRequest, match="no file"):
        add(found=[])


# --- other forms of a model ---


def test_other_forms_are_pinned_and_do_not_change_what_the_model_is(store: ModelStore, add: Callable[..., Any]) -> None:
    digest = add() and store.effective(SPEC).model("big").digest

    def write(folder: Path) -> None:
        (folder / "graphs").mkdir()
        (folder / "graphs/a.onnx").write_bytes(b"graph")

    stored = store.get("waves", "big")
    assert stored is not None
    made = store.add_converted(stored, write)
    assert made == store.get("waves", "big")
    assert [file.path for file in made.converted] == ["converted/graphs/a.onnx"]
    assert made.official
    assert store.effective(SPEC).model("big").digest == digest
    folder = store.required(SPEC, "big")
    assert folder is not None
    assert (folder / "a.bin").read_bytes() == ONE
    (folder / "converted/graphs/a.onnx").write_bytes(b"grapj")
    with pytest.raises(ModelMismatch, match=r"a\.onnx has another SHA-256.*`ironclad models convert waves big`"):
        store.required(SPEC, "big")
    assert store.required(SPEC, "big", converted=False) == folder
    assert check(store.add_converted(made, write)) == []
    assert add().converted == ()  # new weights, new forms
    assert sorted(path.name for path in (store.root / "waves").iterdir()) == ["big"]


def test_what_fails_to_convert_leaves_the_model(store: ModelStore, add: Callable[..., Any]) -> None:
    stored = add()
    with pytest.raises(ModelBroken, match="made nothing"):
        store.add_converted(stored, lambda _folder: None)

    def fail(_folder: Path) -> None:
        raise ModelMismatch("no")

    with pytest.raises(ModelMismatch):
        store.add_converted(stored, fail)
    assert store.get("waves", "big") == stored
    assert sorted(path.name for path in (store.root / "waves").iterdir()) == ["big"]


def test_two_who_bring_one_model_at_once_both_succeed(
    store: ModelStore, add: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder is replaced in two steps: the second one comes, and somebody looks, between them."""
    first, final = add(), store.folder("waves", "big")
    note = durable._note
    meanwhile: list[Future[Any]] = []

    def between(op: str, path: Path, target: Path | None = None) -> None:
        note(op, path, target)
        if (op, path) == ("rename", final) and not meanwhile:
            meanwhile.extend([threads.submit(add), threads.submit(store.required, SPEC, "big")])
            wait(meanwhile, timeout=1)  # neither can be done before this one is

    monkeypatch.setattr(durable, "_note", between)
    with ThreadPoolExecutor(2) as threads:
        assert add().files == first.files
        assert [one.exception(60) for one in meanwhile] == [None, None]
    assert sorted(path.name for path in final.parent.iterdir()) == ["big"]


def test_forms_of_weights_that_were_replaced_meanwhile_are_refused(
    store: ModelStore, add: Callable[..., Any], files: dict[str, Path]
) -> None:
    """They would have brought the old weights back."""
    stored = add()
    files["a.bin"].write_bytes(b"tuned")

    def write(folder: Path) -> None:
        (folder / "a.onnx").write_bytes(b"graph")
        add(pin=True)

    with pytest.raises(ModelMismatch, match="replaced or removed while it was converted"):
        store.add_converted(stored, write)
    assert store.required(SPEC, "big") == stored.folder
    assert (stored.folder / "a.bin").read_bytes() == b"tuned"


def test_one_process_at_a_time_downloads_a_model(store: ModelStore) -> None:
    def interrupted() -> None:
        with store.downloads("waves", "big") as folder:
            (folder / "a.bin").write_bytes(b"half")
            with store.downloads("waves", "other"):
                pass
            with pytest.raises(AlreadyRunning, match="by somebody else"), store.downloads("waves", "big"):
                pass
            raise OSError("the cable")

    with pytest.raises(OSError, match="cable"):
        interrupted()
    with store.downloads("waves", "big") as again:
        assert (again / "a.bin").read_bytes() == b"half"  # what failed is gone on with
    assert not again.exists()


# --- where files come from -------------------------------------------------------------------------------------------


def test_a_folder_is_searched_for_the_declared_names(tmp_path: Path, files: dict[str, Path]) -> None:
    (tmp_path / "brought/README").write_text("hello")
    with sources.gathered(tmp_path / "brought", SPEC.model("big"), tmp_path) as found:
        assert dict(found) == files
    with sources.gathered(tmp_path / "brought", None, tmp_path) as found:
        assert sorted(dict(found)) == ["README", "a.bin", "sub/b.bin"]
    with sources.gathered(files["a.bin"], SPEC.model("big"), tmp_path) as found:
        assert dict(found) == {"a.bin": files["a.bin"]}


@pytest.mark.parametrize("suffix", [".zip", ".whl", ".tar.gz"])
def test_archives_are_unpacked(suffix: str, tmp_path: Path, files: dict[str, Path]) -> None:
    archive = tmp_path / f"models{suffix}"
    if suffix == ".tar.gz":
        with tarfile.open(archive, "w:gz") as tar:
            for name, path in files.items():
                tar.add(path, f"deep/inside/{name}")
    else:
        with zipfile.ZipFile(archive, "w") as zipped:
            for name, path in files.items():
                zipped.write(path, f"deep/inside/{name}")
    scratch = tmp_path / "scratch"
    with sources.gathered(archive, SPEC.model("big"), scratch) as found:
        assert {name: path.read_bytes() for name, path in found} == {"a.bin": ONE, "sub/b.bin": TWO}
    assert list(scratch.iterdir()) == []


def evil_tar(path: Path) -> None:
    with tarfile.open(path, "w") as tar:
        info = tarfile.TarInfo("../evil")
        info.size = 1
        tar.addfile(info, io.BytesIO(b"x"))


def evil_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as zipped:
        zipped.writestr("../evil", "x")


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("a.tar", evil_tar),
        ("a.zip", evil_zip),
        ("a.zip", lambda path: path.write_bytes(b"no zip")),
        ("a.tar", lambda path: path.write_bytes(b"no tar" * 200)),
    ],
)
def test_archives_that_lie(name: str, make: Callable[[Path], object], tmp_path: Path) -> None:
    make(tmp_path / name)
    with pytest.raises(BadRequest), sources.gathered(tmp_path / name, None, tmp_path / "scratch"):
        pass
    assert not (tmp_path / "evil").exists()
    assert list((tmp_path / "scratch").iterdir()) == []


def test_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(NotFound), sources.gathered(tmp_path / "nothing", None, tmp_path):
        pass


@pytest.mark.parametrize(("quiet_ns", "reads"), [(0, 2), (1 << 62, 4)])
def test_files_that_nobody_touched_are_read_once_a_process(
    store: ModelStore, add: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, quiet_ns: int, reads: int
) -> None:
    """Unless they are so new that another change would not show in their times."""
    add()
    read: list[Path] = []

    def counted(path: Path, *_: Any) -> str:
        read.append(path)
        return hashlib.sha256(path.read_bytes()).hexdigest()

    monkeypatch.setattr(models, "_CLOCK_NS", quiet_ns)
    monkeypatch.setattr(models, "sha256", counted)
    folder = store.required(SPEC, "big")
    assert store.required(SPEC, "big") == folder is not None
    assert len(read) == reads
    file = folder / "a.bin"
    file.chmod(0o644)
    file.write_bytes(ONE.swapcase())
    os.utime(file, ns=(1, 1))
    with pytest.raises(ModelMismatch):
        store.required(SPEC, "big")


@pytest.mark.parametrize("name", ["Kim_Vocal_2", "../../output", "..", "", ".hidden", "a/b"])
def test_a_model_is_called_what_its_engine_can_declare(
    store: ModelStore, add: Callable[..., Any], files: dict[str, Path], name: str
) -> None:
    library = store.root.parent / "output"
    (library / "Artist").mkdir(parents=True)
    with pytest.raises(BadRequest, match="cannot be a model's name"):
        add(name, pin=True, found=[("w.bin", files["a.bin"])])
    assert [path.name for path in library.iterdir()] == ["Artist"]
    assert [model.name for model in store.effective(SPEC).models] == ["big", "bare"]


def test_a_model_of_an_impossible_name_in_the_store_does_not_cost_the_engine(
    store: ModelStore, add: Callable[..., Any], files: dict[str, Path]
) -> None:
    add("mine", pin=True, found=[("w.bin", files["a.bin"])])
    store.folder("waves", "mine").rename(store.folder("waves", "Kim_Vocal_2"))
    add()
    assert [model.name for model in store.effective(SPEC).models] == ["big", "bare"]
    assert store.required(SPEC, "big") is not None
    assert store.remove("waves", "Kim_Vocal_2")
