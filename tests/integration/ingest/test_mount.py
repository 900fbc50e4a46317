from __future__ import annotations

from typing import TYPE_CHECKING, Any

import mounts
import pytest

from ironclad.ingest import observations
from ironclad.ingest.watch import How
from ironclad.ingest.why import Verdict, why

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    Bench = Any  # conftest's


@pytest.fixture
def mounted(bench: Bench) -> Iterator[Path]:
    """A small file system, mounted on the input folder."""
    with mounts.needed(bench.input, "size=1m") as folder:
        yield folder


def _root_state(bench: Bench) -> dict[str, Any]:
    with bench.database.session() as session:
        return observations.root_state(session, str(bench.input))


def test_an_unmounted_root_means_unknown_never_deleted(bench: Bench, mounted: Path) -> None:
    bench.configure(stability_seconds=60.0)
    watching = bench.watch()
    path = bench.drop("ana/1.mp3")
    bench.until(lambda: why(bench.database, bench.settings, path).verdict is Verdict.GROWING)
    watching.watcher._rescan()
    bench.until(lambda: _root_state(bench).get("device"))  # it has seen something on the mount, and written that down
    mounts.unmount(mounted)
    watching.watcher._rescan()
    bench.until(lambda: watching.watcher.status()[0].how is How.UNKNOWN)
    assert "mount" in watching.watcher.status()[0].reason
    told = why(bench.database, bench.settings, path)
    assert told.verdict is Verdict.UNKNOWN
    assert bench.jobs() == []

    # A disk with something in it is a root again, whichever it is.
    part = bench.drop("ana/2.mp3.part", b"2")
    bench.until(lambda: watching.watcher.status()[0].how is How.EVENTS)
    part.rename(part.with_suffix(""))
    (job,) = bench.until_jobs(1)
    assert job.relative_path == "2.mp3"


def test_a_claim_is_not_refused_because_its_mount_is_gone(bench: Bench, mounted: Path) -> None:
    from ironclad.ingest import claim  # noqa: PLC0415 - this test alone
    from ironclad.jobs import submit  # noqa: PLC0415 - likewise

    path = bench.drop("ana/1.mp3")
    with bench.database.session() as session:
        job_uuid = submit.receive(session, bench.new(path), bench.settings).job_uuid
    mounts.unmount(mounted)
    outcome = claim.finish(bench.database, bench.settings, job_uuid)
    assert outcome.state == "received"
    assert why(bench.database, bench.settings, path).verdict is Verdict.CLAIMED


def test_files_of_a_small_mount_are_copied_out_of_it(bench: Bench, mounted: Path) -> None:
    assert mounted.exists()
    bench.watch()
    path = bench.drop("ana/1.mp3", b"far" * 1000)
    (job,) = bench.until_jobs(1)
    assert bench.archived(job).read_bytes() == b"far" * 1000
    assert not path.exists()
