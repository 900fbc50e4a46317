"""What must be true of the files and rows of a world, at any moment and at the end."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from blake3 import blake3

from chaoslab import stubs
from chaoslab.protocols import source_of
from chaoslab.world import SONG, STRANGER
from ironclad import durable
from ironclad.stages import markers

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from chaoslab.protocols import Protocol
    from chaoslab.world import World

WHOLE = {
    hashlib.sha256(data).hexdigest()
    for data in (SONG, STRANGER, *(stubs.content(kind, take) for kind in stubs.KINDS for take in (1, 2)))
}
"""Every whole audio file that can exist."""


def _files(folder: Path) -> Iterator[Path]:
    """Files under final names: hidden ones are temporary, and nobody is promised anything about them."""
    if folder.exists():
        for path in sorted(folder.rglob("*")):
            hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
            if path.is_file() and not hidden:
                yield path


def _whole(path: Path, known: frozenset[str] = frozenset()) -> bool:
    data = path.read_bytes()
    if path.suffix == ".json":
        try:
            json.loads(data)
        except ValueError:
            return False
        return True
    return path.suffix == ".jsonl" or hashlib.sha256(data).hexdigest() in WHOLE | known


def always(world: World, protocol: Protocol, known: frozenset[str] = frozenset()) -> list[str]:
    """What holds at every instant, also right after a crash; returns the violations.

    `known` are SHA-256 digests of more whole files than the laboratory makes up: those of a real song.
    """
    world.real = protocol.real
    song = source_of(world)
    known |= {hashlib.sha256(song).hexdigest()}
    layout = world.settings.layout
    bad = []
    inputs = (layout.input, world.outside / "input")
    places = (*inputs, layout.archive, layout.error)
    sources = [path for folder in places for path in _files(folder) if path.read_bytes() == song]
    if protocol.state is not None and not sources:
        bad.append("the source is lost")
    for folder in (layout.archive, layout.error, layout.output, *inputs):
        bad += [f"partial under a final name: {path}" for path in _files(folder) if not _whole(path, known)]
    if layout.skipped.exists() and not _whole(layout.skipped):
        bad.append("skipped.json is torn")
    for stage in _stage_folders(layout.work):
        marker = markers.read(stage)
        if marker is None and protocol.name in {"tidy", "prune"}:
            continue  # made up for the occasion
        if marker is None or markers.files_of(stage) != marker.outputs:
            bad.append(f"a stage's folder is visible and not whole: {stage.name}")
    return bad + _recorded(world) + protocol.check(world)


def _stage_folders(work: Path) -> Iterator[Path]:
    if work.exists():
        for job in work.iterdir():
            yield from (folder for folder in job.iterdir() if "." not in folder.name and not job.name.startswith("."))


def _recorded(world: World) -> list[str]:
    """Published <=> recorded."""
    rows = world.rows("SELECT path, blake3, state FROM artifact")
    known = {(row["path"], row["blake3"]) for row in rows}
    bad = []
    for row in rows:
        if row["state"] == "published":
            path = world.root / row["path"]
            if not path.is_file():
                bad.append(f"recorded as published and not there: {path.name}")
            elif durable.digest(path) != row["blake3"] and path.read_bytes() != STRANGER:
                bad.append(f"recorded as published with other bytes: {path.name}")
    unknown = [
        path.name for path in _files(world.settings.layout.output)
        if path.read_bytes() != STRANGER and (str(path), durable.digest(path)) not in known
    ]  # fmt: skip
    return bad + [f"in the library and not recorded: {name}" for name in unknown]


@dataclass(frozen=True, slots=True)
class End:
    """How a world ended: the job's state, each file's digest below the folders that last, output/'s empty folders."""

    states: tuple[str, ...]
    files: tuple[tuple[str, str], ...]
    known: frozenset[str] = frozenset()
    """SHA-256 of every file that lasted."""


def end(world: World) -> End:
    """The end of a world. Logs, receipts and error.json hold times and attempts: that they are whole is in `always`."""
    layout = world.settings.layout
    files, known = {}, set()
    lasting = (layout.input, layout.archive, layout.error, layout.output, layout.work, world.root / "host")
    for folder in (world.outside / "input", *lasting):
        for path in _files(folder):
            name = str(path.relative_to(world.root if world.root in path.parents else world.outside))
            volatile = path.suffix == ".jsonl" or path.name in {"error.json", "marker.json"}
            volatile |= world.real and path.name.endswith(".receipt.json")  # says when it was made
            known.add(hashlib.sha256(path.read_bytes()).hexdigest())
            files[name] = "" if volatile else durable.digest(path)
    for path in layout.output.rglob("*"):
        if path.is_dir() and not any(path.iterdir()):  # nobody publishes a folder
            files[f"{path.relative_to(world.root)}/"] = ""
    states = tuple(sorted(str(row["state"]) for row in world.rows("SELECT state FROM job")))
    return End(states, tuple(sorted(files.items())), frozenset(known))


def at_the_end(world: World, protocol: Protocol, wanted: End) -> list[str]:
    """What holds when recovery is over; returns the violations."""
    bad = always(world, protocol, wanted.known)
    found = end(world)
    if protocol.state is not None:
        if found.states.count(protocol.state) != 1:
            bad.append(f"the job ended as {found.states}, not {protocol.state}")
        song = source_of(world)
        copies = [name for name, digest in found.files if digest == blake3(song).hexdigest() and "work/" not in name]
        if len(copies) != (2 if protocol.leaves_source else 1):
            bad.append(f"the source is there {len(copies)} times")
    if found.files != wanted.files:
        extra = set(found.files) ^ set(wanted.files)
        bad.append(f"it converged to other files: {sorted(extra)[:4]}")
    return bad
