from __future__ import annotations

import errno
import logging
import queue
from typing import TYPE_CHECKING

import pytest

from ironclad.ingest.feed import PROBE_PREFIX, EventFeed, Happened, explain, remote_file_system

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MOUNTS = """\
21 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 21 0:40 / /mnt/nas rw,relatime shared:9 - cifs //nas/music rw,vers=3.1.1
31 30 0:41 / /mnt/nas/local rw - ext4 /dev/sdb1 rw
32 21 0:42 / /mnt/with\\040space rw shared:3 - nfs4 server:/x rw
33 21 0:43 / /mnt/pool rw - fuse.mergerfs a:b rw
34 21 0:44 / /mnt/na rw - tmpfs tmpfs rw
garbage
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/home/ana", None),
        ("/mnt/nas", "cifs"),
        ("/mnt/nas/x/y", "cifs"),
        ("/mnt/nas/local/x", None),
        ("/mnt/with space/x", "nfs4"),
        ("/mnt/pool/x", "fuse.mergerfs"),
        ("/mnt/na", None),
        ("/mnt/nasty", None),
    ],
)
def test_file_systems_that_others_change_are_known(path: str, kind: str | None) -> None:
    from pathlib import Path  # noqa: PLC0415 - the module needs it for annotations only

    assert remote_file_system(Path(path), MOUNTS) == kind


def test_this_machines_own_mounts_can_be_read(tmp_path: Path) -> None:
    assert remote_file_system(tmp_path) is None or isinstance(remote_file_system(tmp_path), str)


def test_limits_are_named() -> None:
    assert "max_user_watches" in explain(OSError(errno.ENOSPC, "x"))
    assert "max_user_instances" in explain(OSError(errno.EMFILE, "x"))
    assert "Permission" in explain(OSError(errno.EACCES, "Permission denied"))


class Heard:
    """A feed and what it told."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.events: queue.SimpleQueue[Happened] = queue.SimpleQueue()
        self.lost: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.feed = EventFeed(root, self.events.put, self.lost.put)

    def until(self, wanted: Happened) -> list[Happened]:
        """Everything up to the wanted event."""
        seen: list[Happened] = []
        while not seen or seen[-1] != wanted:
            seen.append(self.events.get(timeout=60))
        return seen


@pytest.fixture
def heard(tmp_path: Path) -> Iterator[Heard]:
    root = tmp_path / "root"
    (root / "ana").mkdir(parents=True)
    heard = Heard(root)
    heard.feed.start()
    yield heard
    heard.feed.stop()


def test_writing_and_closing(heard: Heard) -> None:
    (heard.root / "ana" / "a.mp3").write_bytes(b"x")
    seen = heard.until(Happened("changed", "ana/a.mp3"))
    assert all(event == Happened("changed", "ana/a.mp3") for event in seen)


def test_renaming_in_over_and_out(heard: Heard, tmp_path: Path) -> None:
    outside = tmp_path / "a.mp3"
    outside.write_bytes(b"x")
    outside.rename(heard.root / "a.mp3")
    heard.until(Happened("renamed", "a.mp3", None))
    (heard.root / "a.mp3").rename(heard.root / "ana" / "b.mp3")
    heard.until(Happened("renamed", "ana/b.mp3", "a.mp3"))
    (heard.root / "ana" / "b.mp3").rename(outside)
    heard.until(Happened("gone", "ana/b.mp3"))


def test_a_hard_link_and_a_deletion(heard: Heard, tmp_path: Path) -> None:
    outside = tmp_path / "a.mp3"
    outside.write_bytes(b"x")
    (heard.root / "a.mp3").hardlink_to(outside)
    heard.until(Happened("changed", "a.mp3"))
    (heard.root / "a.mp3").unlink()
    heard.until(Happened("gone", "a.mp3"))


def test_folders(heard: Heard, tmp_path: Path) -> None:
    (heard.root / "ana" / "Album").mkdir()
    heard.until(Happened("folder", "ana/Album"))
    (heard.root / "ana" / "Album" / "1.mp3").write_bytes(b"x")
    heard.until(Happened("changed", "ana/Album/1.mp3"))
    (heard.root / "ana" / "Album").rename(tmp_path / "Album")
    heard.until(Happened("folder_gone", "ana/Album"))
    (tmp_path / "Album").rename(heard.root / "Album")
    heard.until(Happened("folder", "Album", None))
    (heard.root / "Album" / "2.mp3").write_bytes(b"x")
    heard.until(Happened("changed", "Album/2.mp3"))


def test_reading_makes_no_event(heard: Heard) -> None:
    (heard.root / "a.mp3").write_bytes(b"x")
    (heard.root / "a.mp3").read_bytes()
    (heard.root / "last.mp3").hardlink_to(heard.root / "a.mp3")
    seen = heard.until(Happened("changed", "last.mp3"))
    assert [event.path for event in seen].count("a.mp3") <= 2  # created, closed after writing


def test_the_probe_is_heard_told_to_nobody_and_leaves_nothing(heard: Heard) -> None:
    assert heard.feed.probe(60) is None
    assert [path.name for path in heard.root.iterdir()] == ["ana"]
    (heard.root / "a.mp3").write_bytes(b"x")
    seen = heard.until(Happened("changed", "a.mp3"))
    assert not any(event.path.startswith(PROBE_PREFIX) for event in seen)


def test_a_probe_without_an_event_says_so(heard: Heard) -> None:
    heard.feed.stop()
    assert heard.feed.probe(0.05) == "a probe file gave no event"


def test_a_probe_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    feed = EventFeed(tmp_path / "none", lambda _event: None, lambda _message: None)
    assert "no probe file" in str(feed.probe(0.05))


def test_watched_folders_are_counted_for_this_feed_only(heard: Heard, tmp_path: Path) -> None:
    assert heard.feed.watched_folders() == 2
    other = Heard(tmp_path)
    other.feed.start()
    try:
        assert heard.feed.watched_folders() == 2
        assert other.feed.watched_folders() == 3
    finally:
        other.feed.stop()


def test_watchdogs_complaints_are_passed_on_while_it_runs(heard: Heard) -> None:
    logger = logging.getLogger("watchdog.observers.inotify_c")
    logger.warning("Inotify queue overflowed; filesystem events were lost")
    assert "overflowed" in heard.lost.get(timeout=60)
    logger.info("nothing of interest")
    heard.feed.stop()
    logger.warning("later")
    assert heard.lost.empty()


def test_a_missing_root_cannot_be_watched(tmp_path: Path) -> None:
    feed = EventFeed(tmp_path / "none", lambda _event: None, lambda _message: None)
    with pytest.raises(OSError, match="No such file"):
        feed.start()
    feed.stop()
