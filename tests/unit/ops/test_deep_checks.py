"""The deep checks of `ironclad health` and `doctor`: each finds what it is for, and says what to do."""

from __future__ import annotations

import os
import resource
import struct
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

import mounts
import pytest

from ironclad.config import load
from ironclad.ops import directory
from ironclad.ops.checks import host, notify, online
from ironclad.ops.checks.outcome import Level, Outcome
from ironclad.ops.doctor import DEEP

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ironclad.config import Settings

TIME_OK, TIME_ERROR = 0, 5
STA_NANO = 0x2000


def settings_of(folder: Path, **more: str) -> Settings:
    return load(environ={"IRONCLAD_DATA_DIR": str(folder), **{f"IRONCLAD_{name}": more[name] for name in more}})


def levels(outcomes: list[Outcome]) -> dict[str, Level]:
    """By what they are about; whatever is not well comes with a remedy."""
    assert all(one.remedy for one in outcomes if one.level is not Level.OK)
    return {one.about: one.level for one in outcomes}


def test_what_the_health_command_looks_at() -> None:
    assert {check.name for check in DEEP} == {
        "disk", "inodes", "file descriptors", "open files", "clock", "watch root", "decoder", "engine", "gpu",
        "postgres", "prefect", "workers", "certificate", "musicbrainz", "virus scanner", "backup", "notifier",
    }  # fmt: skip


# --- the clock -------------------------------------------------------------------------------------------------------


def timex(offset_seconds: float, most_seconds: float, *, nano: bool = True) -> bytes:
    """struct timex as the kernel fills it in: modes, offset, freq, maxerror, esterror, status."""
    offset = round(offset_seconds * (1e9 if nano else 1e6))
    raw = struct.pack("@i0l", 0) + struct.pack("@llll i", offset, 0, round(most_seconds * 1e6), 0, STA_NANO * nano)
    return raw.ljust(512, b"\0")


def test_a_clock_that_nobody_sets_is_a_warning() -> None:
    found = host.judge_clock(TIME_ERROR, timex(0.0, 16.0))
    assert (found.level, "not synchronised" in found.detail) == (Level.WARN, True)
    assert "chrony" in found.remedy


@pytest.mark.parametrize("nano", [True, False])
def test_a_clock_that_is_off_is_a_warning(nano: bool) -> None:  # noqa: FBT001 - a case
    assert host.judge_clock(TIME_OK, timex(0.012, 0.5, nano=nano)).detail == (
        "the clock is synchronised, +12.0 ms off, at most 0.50 s"
    )
    for offset, most in ((0.7, 0.9), (-0.7, 0.9), (0.0, 6.0)):
        found = host.judge_clock(TIME_OK, timex(offset, most, nano=nano))
        assert found.level is Level.WARN
        assert "timedatectl" in found.remedy


def test_this_machines_clock_can_be_asked(tmp_path: Path) -> None:
    assert set(levels(host.clock(settings_of(tmp_path)))) == {""}


# --- disk and files --------------------------------------------------------------------------------------------------


@pytest.fixture
def few_inodes(tmp_path: Path) -> Iterator[Path]:
    """A file system with room for a hundred files."""
    with mounts.needed(tmp_path / "small", "nr_inodes=100") as folder:
        yield folder


def test_few_inodes_are_a_failure(few_inodes: Path) -> None:
    (found,) = host.inodes(settings_of(few_inodes))
    assert (found.level, bool(found.remedy)) == (Level.FAIL, True)


def test_open_files_of_this_process_and_of_services(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    settings.layout.create()
    announced = directory.announce(settings.layout.run, "watch", "127.0.0.1", 1)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert levels(host.open_files(settings)) == {"": Level.OK}
    extra = [os.open(os.devnull, os.O_RDONLY) for _ in range(100)]
    used = sum(1 for _ in Path("/proc/self/fd").iterdir())
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 10, hard))
    try:
        few, near = levels(host.descriptors(settings)), levels(host.open_files(settings))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        directory.withdraw(settings.layout.run, announced)
        for number in extra:
            os.close(number)
    assert (few, near) == ({"": Level.WARN}, {"watch": Level.WARN})


# --- services of others ----------------------------------------------------------------------------------------------


class MusicBrainz(BaseHTTPRequestHandler):
    status = 200

    def do_GET(self) -> None:
        assert self.path.startswith("/ws/2/genre/all")
        assert self.headers["User-Agent"].startswith("Ironclad/")
        self.send_response(type(self).status)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def musicbrainz() -> Iterator[tuple[type[MusicBrainz], str]]:
    class Here(MusicBrainz):
        pass

    server = HTTPServer(("127.0.0.1", 0), Here)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield Here, f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_musicbrainz(musicbrainz: tuple[type[MusicBrainz], str], tmp_path: Path) -> None:
    handler, url = musicbrainz
    name = "METADATA__MUSICBRAINZ__"
    asked = {f"{name}ENABLED": "true", f"{name}URL": url}
    assert levels(online.musicbrainz(settings_of(tmp_path))) == {"": Level.OK}  # not asked
    assert "contact" in online.musicbrainz(settings_of(tmp_path, **asked))[0].detail
    known = settings_of(tmp_path, **asked, **{f"{name}CONTACT": "ops@example.org"})
    assert levels(online.musicbrainz(known)) == {"": Level.OK}
    handler.status = 503
    assert levels(online.musicbrainz(known)) == {"": Level.WARN}
    away = settings_of(tmp_path, **{**asked, f"{name}URL": "http://127.0.0.1:9"})
    assert levels(online.musicbrainz(away)) == {"": Level.WARN}


def test_channels_as_they_are_set(tmp_path: Path) -> None:
    assert levels(notify.channels(settings_of(tmp_path))) == {"": Level.WARN}  # none: nobody is told
    found = notify.channels(
        settings_of(
            tmp_path, NOTIFY__CHANNELS__GOOD__URL="json://127.0.0.1:9/", NOTIFY__CHANNELS__BAD__URL="nothing://x",
            NOTIFY__CHANNELS__ODD__TYPE="pigeon",
            NOTIFY__ROUTES='[{"channels": ["good"]}, {"name": "all", "mute": true}]',
        )
    )  # fmt: skip
    assert levels(found) == {"good": Level.OK, "bad": Level.FAIL, "odd": Level.FAIL, "route all": Level.WARN}
    assert "ironclad notify test bad" in next(one.remedy for one in found if one.about == "bad")
