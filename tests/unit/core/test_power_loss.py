"""Every crash instant times every legal loss of what was not flushed, from the effects that durable.py records.

A kill keeps the page cache, so it cannot show a missing fsync; a power loss may lose any effect that was not flushed.
The model: a file's bytes are safe after its fsync, a name after the fsync of its folder (of both folders, for a
rename); unflushed names are lost or kept independently (Pillai et al., OSDI 2014; Mohan et al., OSDI 2018).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import chain, combinations
from typing import TYPE_CHECKING

import pytest

from ironclad import durable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from ironclad.durable import Effect


@dataclass
class Disk:
    """Names, and which of them have whole bytes."""

    names: dict[Path, str] = field(default_factory=dict)
    whole: set[str] = field(default_factory=set)


def subsets(items: list[int]) -> Iterable[tuple[int, ...]]:
    return chain.from_iterable(combinations(items, size) for size in range(len(items) + 1))


def flushed(effect: Effect, later: list[Effect]) -> bool:
    """Whether the name that this effect changed is on disk, given what was done afterwards."""
    folders = {effect.path.parent} | ({effect.target.parent} if effect.target else set())
    return folders <= {other.path for other in later if other.op == "fsync_dir"}


def crashes(effects: list[Effect], before: dict[Path, str]) -> Iterator[tuple[int, Disk]]:
    """Each state that a power loss may leave: the number of effects done, and the disk."""
    for done in range(len(effects) + 1):
        past = effects[:done]
        unsure = [
            index
            for index, effect in enumerate(past)
            if effect.op in {"rename", "link", "unlink"} and not flushed(effect, past[index + 1 :])
        ]
        for kept in subsets(unsure):
            yield done, replayed(past, before, lost=set(unsure) - set(kept))


def replayed(past: list[Effect], before: dict[Path, str], *, lost: set[int]) -> Disk:
    disk = Disk(dict(before), set(before.values()))
    for index, effect in enumerate(past):
        if effect.op == "write":
            disk.names[effect.path] = f"new:{effect.path.name}"
        elif effect.op == "fsync" and effect.path in disk.names:
            disk.whole.add(disk.names[effect.path])
        elif index in lost:
            continue
        elif effect.op == "rename" and effect.target is not None and effect.path in disk.names:
            disk.names[effect.target] = disk.names.pop(effect.path)
        elif effect.op == "link" and effect.target is not None:
            disk.names[effect.target] = disk.names[effect.path]
        elif effect.op == "unlink":
            disk.names.pop(effect.path, None)
    return disk


def record(call: Callable[[], object]) -> list[Effect]:
    with durable.recording() as effects:
        call()
    return effects


def torn(effects: list[Effect], before: dict[Path, str], final: Path) -> list[int]:
    """Crash instants after which the final name holds bytes that are not whole."""
    return [done for done, disk in crashes(effects, before) if disk.names.get(final, "") not in {"", *disk.whole}]


def missing(effects: list[Effect], before: dict[Path, str], final: Path) -> bool:
    """Whether, with everything done, the final name can still be lost."""
    return any(final not in disk.names for done, disk in crashes(effects, before) if done == len(effects))


def publish(folder: Path) -> tuple[list[Effect], Path]:
    source, final = folder / "made", folder / "song.flac"
    source.write_bytes(b"song")

    def call() -> None:
        durable.copy_to_temporary(source, folder / ".t.part", durable.digest(source))
        durable.publish(folder / ".t.part", final)

    return record(call), final


def write(folder: Path) -> tuple[list[Effect], Path]:
    return record(lambda: durable.write_atomic(folder / "file", b"x")), folder / "file"


def copy(folder: Path) -> tuple[list[Effect], Path]:
    (folder / "made").write_bytes(b"song")
    return record(lambda: durable.copy_verified(folder / "made", folder / "copy")), folder / "copy"


@pytest.mark.parametrize("protocol", [publish, write, copy], ids=["publish", "write_atomic", "copy_verified"])
def test_no_crash_leaves_half_a_file_and_the_end_is_safe(
    tmp_path: Path, protocol: Callable[[Path], tuple[list[Effect], Path]]
) -> None:
    effects, final = protocol(tmp_path)
    assert len(list(crashes(effects, {}))) > len(effects)
    assert torn(effects, {}, final) == []
    assert not missing(effects, {}, final)


@pytest.mark.parametrize("protocol", [publish, write, copy], ids=["publish", "write_atomic", "copy_verified"])
def test_the_model_sees_each_flush_that_is_left_out(
    tmp_path: Path, protocol: Callable[[Path], tuple[list[Effect], Path]]
) -> None:
    effects, final = protocol(tmp_path)
    assert torn([effect for effect in effects if effect.op != "fsync"], {}, final)
    assert missing([effect for effect in effects if effect.op != "fsync_dir"], {}, final)


def test_an_older_file_is_whole_until_the_newer_one_is(tmp_path: Path) -> None:
    final = tmp_path / "file"
    final.write_bytes(b"old")
    effects = record(lambda: durable.write_atomic(final, b"new"))
    states = {disk.names[final] for _, disk in crashes(effects, {final: "old"})}
    assert states == {"old", f"new:{effects[0].path.name}"}
    assert torn(effects, {final: "old"}, final) == []


def test_a_move_never_loses_the_file(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    source, target = tmp_path / "in" / "a", tmp_path / "out" / "a"
    source.write_bytes(b"x")
    effects = record(lambda: durable.move(source, target))
    for _, disk in crashes(effects, {source: "song"}):
        assert "song" in disk.names.values()
    assert not missing(effects, {source: "song"}, target)


def test_a_copy_then_delete_never_loses_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = tmp_path / "a", tmp_path / "b"
    source.write_bytes(b"x")
    rename = durable._rename_noreplace

    def other_device(one: Path, other: Path) -> None:
        if one == source:
            raise OSError(18, "Invalid cross-device link")
        rename(one, other)

    monkeypatch.setattr(durable, "_rename_noreplace", other_device)
    effects = record(lambda: durable.move(source, target))
    for _, disk in crashes(effects, {source: "song"}):
        whole = [name for name, content in disk.names.items() if content in disk.whole and name in {source, target}]
        assert whole
