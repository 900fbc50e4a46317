"""Every screen, at both sizes, in each state of an installation, against its kept frame; the documents' pictures."""

from __future__ import annotations

from functools import cache

import frames
import pytest
from rich.cells import cell_len

CASES = [
    pytest.param(kind, size, name, id=f"{kind}-{size[0]}x{size[1]}-{name}")
    for kind in frames.KINDS
    for size in frames.SIZES
    for name in frames.names(kind)
]  # fmt: skip


@cache
def taken(kind: str, size: tuple[int, int]) -> dict[str, str]:
    """The frames of one installation are taken in one go: starting the cockpit costs more than all its screens."""
    return frames.take(kind, size)


@pytest.mark.parametrize(("kind", "size", "name"), CASES)
def test_the_frame_is_as_kept(kind: str, size: tuple[int, int], name: str) -> None:
    frame = taken(kind, size)[name]
    path = frames.path_of(kind, size, name)
    if frames.UPDATE:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(frame + "\n", encoding="utf-8")
    assert path.read_text(encoding="utf-8") == frame + "\n"
    assert all(cell_len(line) <= size[0] for line in frame.splitlines())
    assert len(frame.splitlines()) <= size[1]


def test_no_frame_is_kept_that_is_not_taken() -> None:
    wanted = {
        frames.path_of(kind, size, name)
        for kind in frames.KINDS
        for size in frames.SIZES
        for name in frames.names(kind)
    }
    assert set(frames.FOLDER.rglob("*.txt")) == wanted
    assert len(wanted) >= 60


def test_the_pictures_of_the_documents_are_those_of_the_screens() -> None:
    for name, svg in frames.pictures().items():
        path = frames.PICTURES / f"{name}.svg"
        if frames.UPDATE:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(svg, encoding="utf-8")
        assert path.read_text(encoding="utf-8") == svg, name
        assert f"img/tui/{name}.svg" in (frames.ROOT / "docs" / "tui.md").read_text(encoding="utf-8")
