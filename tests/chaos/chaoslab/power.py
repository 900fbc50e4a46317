"""Power loss: every instant of a recorded run, with every legal loss of what was not flushed yet.

`kill -9` keeps the page cache and so cannot show a missing fsync. Here the effects that `durable.recording()` collected
are replayed onto a model of a journaling file system: an operation on a folder lasts once every folder it changes was
flushed, else it may be lost, alone or with any others; a file's bytes last once it was flushed, else it may be torn.
After ALICE (Pillai et al., OSDI 2014) and CrashMonkey (Mohan et al., OSDI 2018).
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

_EXHAUSTIVE = 7  # unflushed operations of which every subset is tried; of more: each alone, all others, each prefix
_FOLDER = -1


@dataclass(frozen=True, slots=True)
class Operation:
    """One recorded effect; `number` counts."""

    number: int
    op: str
    path: str
    target: str | None


@dataclass(slots=True)
class Trace:
    """A recorded run."""

    root: str
    files: list[str]
    """Files that were there before."""
    sources: list[str]
    """Those of them that hold the source's bytes."""
    effects: list[Operation]

    @classmethod
    def load(cls, path: Path) -> Trace:
        """Read what the driver wrote."""
        data = json.loads(path.read_text())
        effects = [Operation(n, e["op"], e["path"], e["target"]) for n, e in enumerate(data["effects"])]
        return cls(data["root"], data["files"], data["sources"], effects)


@dataclass(frozen=True, slots=True)
class State:
    """What a disk may hold after the power came back."""

    instant: int
    names: frozenset[tuple[str, int]]
    """Path and inode; folders that were made have inode -1."""
    torn: frozenset[int]
    """Inodes whose bytes may be missing."""
    view: str
    """What the database says (its commits are flushed before they return)."""


@dataclass(slots=True)
class _Run:
    """The run up to an instant: which operations may be lost, and which inodes are not flushed."""

    pending: list[tuple[Operation, set[str]]] = field(default_factory=list)
    sure: set[int] = field(default_factory=set)
    inodes: dict[int, int] = field(default_factory=dict)  # write operation -> inode
    dirty: set[int] = field(default_factory=set)
    view: str = ""


def _parent(path: str) -> str:
    return str(PurePosixPath(path).parent)


def states(trace: Trace) -> Iterator[State]:
    """Every state that a power cut may leave, each once for each instant's database."""
    seen: set[tuple[Any, ...]] = set()
    run = _Run()
    live = _Namespace(trace)
    for instant in range(len(trace.effects) + 1):
        for state in _losses(trace, run, instant):
            key = (state.names, state.torn, state.view)
            if key not in seen:
                seen.add(key)
                yield state
        if instant < len(trace.effects):
            _advance(run, live, trace.effects[instant])


def _advance(run: _Run, live: _Namespace, effect: Operation) -> None:
    if effect.op == "commit":
        run.view = effect.path
    elif effect.op == "write":
        if effect.path not in live.names:
            run.pending.append((effect, {_parent(effect.path)}))
        live.apply(effect)
        run.dirty.add(live.names[effect.path])
    elif effect.op == "fsync":
        run.dirty.discard(live.names.get(effect.path, 0))
    elif effect.op == "fsync_dir":
        for operation, folders in run.pending:
            folders.discard(effect.path)
            if not folders:
                run.sure.add(operation.number)
        run.pending = [pair for pair in run.pending if pair[1]]
    else:
        folders = {_parent(effect.path)} | ({_parent(effect.target)} if effect.target else set())
        if effect.op == "link" and effect.target:
            folders = {_parent(effect.target)}
        run.pending.append((effect, folders))
        live.apply(effect)


class _Namespace:
    """Names and inodes. Operations whose object is not there (it was lost) do nothing."""

    def __init__(self, trace: Trace) -> None:
        self.names = {path: number + 1 for number, path in enumerate(trace.files)}
        self._first = len(trace.files) + 1

    def apply(self, effect: Operation) -> None:
        path, target = effect.path, effect.target
        if effect.op == "write":
            self.names.setdefault(path, self._first + effect.number)
        elif effect.op == "mkdir":
            self.names[path] = _FOLDER
        elif effect.op == "link" and target is not None and path in self.names:
            self.names[target] = self.names[path]
        elif effect.op == "unlink":
            for name in self._below(path):
                del self.names[name]
        elif effect.op == "rename" and target is not None:
            moved = {name: self.names.pop(name) for name in self._below(path)}
            for name, inode in moved.items():
                self.names[target + name[len(path) :]] = inode

    def _below(self, path: str) -> list[str]:
        return [name for name in self.names if name == path or name.startswith(path + "/")]


def _subsets(items: Sequence[int]) -> Iterator[set[int]]:
    """What may be lost."""
    if len(items) <= _EXHAUSTIVE:
        for count in range(len(items) + 1):
            yield from (set(chosen) for chosen in combinations(items, count))
        return
    yield set()
    yield set(items)
    for index, item in enumerate(items):
        yield {item}
        yield set(items) - {item}
        yield set(items[index:])
        yield set(items[: index + 1])


def _losses(trace: Trace, run: _Run, instant: int) -> Iterator[State]:
    lasting = [e for e in trace.effects[:instant] if e.op in {"write", "mkdir", "link", "unlink", "rename"}]
    made = {e.path for e in lasting if e.op == "mkdir"}
    for lost in _subsets([operation.number for operation, _ in run.pending]):
        disk = _Namespace(trace)
        for effect in lasting:
            # A rename or link that lasted carries its inode with it, also where the first name was lost.
            if effect.op in {"rename", "link"} and effect.number not in lost and effect.path not in disk.names:
                _carry(disk, trace, effect, instant)
            if effect.number not in lost:
                disk.apply(effect)
        names = {name: inode for name, inode in disk.names.items() if _reachable(name, disk.names, made)}
        dirty = sorted(run.dirty & set(names.values()))
        for torn in (set(), set(dirty), *({one} for one in dirty)):
            yield State(instant, frozenset(names.items()), frozenset(torn), run.view)


def _carry(disk: _Namespace, trace: Trace, effect: Operation, instant: int) -> None:
    live = _Namespace(trace)
    for earlier in trace.effects[:instant]:
        if earlier.number >= effect.number:
            break
        live.apply(earlier)
    if effect.path in live.names and live.names[effect.path] != _FOLDER:
        disk.names[effect.path] = live.names[effect.path]


def _reachable(name: str, names: dict[str, int], made: set[str]) -> bool:
    """Whether every folder above that this run made lasted."""
    return all(str(folder) not in made or str(folder) in names for folder in PurePosixPath(name).parents)


def violations(trace: Trace, state: State) -> list[str]:
    """What is wrong with a state."""
    names = dict(state.names)
    bad = []
    originals = {
        inode for name, inode in names.items() if PurePosixPath(name).name.startswith("original.")
    } | {index + 1 for index, path in enumerate(trace.files) if path in trace.sources}  # fmt: skip
    whole = {name for name, inode in names.items() if inode in originals and inode not in state.torn}
    kept = [name for name in whole if _final(trace, name) and "/work/" not in name]
    if trace.sources and not kept:
        bad.append("the source is lost")
    for name, inode in names.items():
        if inode in state.torn and _final(trace, name):
            bad.append(f"torn under a final name: {PurePosixPath(name).name}")
    if state.view:
        view = json.loads(state.view)
        for path, _digest, published in view["artifacts"]:
            if published == "published" and path not in names:
                bad.append(f"recorded as published and not there: {PurePosixPath(path).name}")
        for job, _filed, mode in view["jobs"]:
            if mode == "copy" and job == "succeeded" and kept:
                continue  # the archive's copy may be pruned: its owner has the file
            if job != "received" and not any("/archive/" in name or "/error/" in name for name in kept):
                bad.append(f"the job is {job}, and its original is neither in archive/ nor in error/")
    return bad


def _final(trace: Trace, name: str) -> bool:
    """Whether a name is one that readers trust: nothing hidden, no stage folder in the making."""
    parts = PurePosixPath(name).relative_to(trace.root).parts if name.startswith(trace.root) else (name,)
    hidden = any(part.startswith(".") for part in parts)
    return not hidden and not any(part.endswith(".tmp") for part in parts) and parts[-1] != "log.jsonl"
