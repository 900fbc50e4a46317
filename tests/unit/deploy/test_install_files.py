"""Files of an installation: what an operator changed stays, what is ours is kept current."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ironclad.errors import BadRequest
from ironclad.ops.install import files
from ironclad.ops.install.files import Outcome

UNIT = Path("etc/systemd/system/a.service")


def outcomes(planned: list[files.Planned]) -> dict[str, Outcome]:
    return {one.path.name: one.outcome for one in planned}


def test_first_written_then_unchanged_then_changed(tmp_path: Path) -> None:
    assert outcomes(files.write(files.plan(tmp_path, {UNIT: "one\n"}))) == {"a.service": Outcome.CREATED}
    target = tmp_path / UNIT
    assert target.read_text(encoding="utf-8").startswith("one\n")
    assert target.stat().st_mode & 0o777 == 0o644
    before = target.stat().st_mtime_ns
    assert outcomes(files.write(files.plan(tmp_path, {UNIT: "one\n"}))) == {"a.service": Outcome.UNCHANGED}
    assert target.stat().st_mtime_ns == before
    assert outcomes(files.write(files.plan(tmp_path, {UNIT: "two\n"}))) == {"a.service": Outcome.CHANGED}
    assert target.read_text(encoding="utf-8").startswith("two\n")


def test_a_plan_writes_nothing(tmp_path: Path) -> None:
    files.plan(tmp_path, {UNIT: "one\n"}, once={Path("x"): "y"})
    assert list(tmp_path.iterdir()) == []


def test_an_edited_file_stops_everything_until_forced_and_is_kept(tmp_path: Path) -> None:
    other = UNIT.with_name("b.service")
    files.write(files.plan(tmp_path, {UNIT: "one\n"}))
    (tmp_path / UNIT).write_text("mine\n", encoding="utf-8")
    planned = files.plan(tmp_path, {UNIT: "two\n", other: "b\n"})
    assert outcomes(planned) == {"a.service": Outcome.EDITED, "b.service": Outcome.CREATED}
    with pytest.raises(BadRequest, match=r"a\.service"):
        files.write(planned)
    assert (tmp_path / UNIT).read_text(encoding="utf-8") == "mine\n"
    assert not (tmp_path / other).exists()
    files.write(planned, force=True)
    assert (tmp_path / UNIT).read_text(encoding="utf-8").startswith("two\n")
    assert (tmp_path / UNIT).with_name("a.service.old").read_text(encoding="utf-8") == "mine\n"


def test_former_files_go_and_drop_ins_stay(tmp_path: Path) -> None:
    files.write(files.plan(tmp_path, {UNIT: "one\n", UNIT.with_name("b.service"): "b\n"}))
    own = tmp_path / UNIT.with_name("c.service")
    own.write_text("an operator's\n", encoding="utf-8")
    drop_in = tmp_path / UNIT.with_name("a.service.d") / "50-mine.conf"
    drop_in.parent.mkdir()
    drop_in.write_text("[Service]\nNice=5\n", encoding="utf-8")
    done = files.write(files.plan(tmp_path, {UNIT: "two\n"}, ["etc/systemd/system/*.service"]))
    assert outcomes(done) == {"a.service": Outcome.CHANGED, "b.service": Outcome.REMOVED}
    assert own.exists()
    assert drop_in.read_text(encoding="utf-8") == "[Service]\nNice=5\n"


def test_what_is_the_operators_from_the_start_is_written_once(tmp_path: Path) -> None:
    once = {Path("etc/ironclad.toml"): "a = 1\n"}
    assert outcomes(files.write(files.plan(tmp_path, {}, once=once))) == {"ironclad.toml": Outcome.CREATED}
    (tmp_path / "etc/ironclad.toml").write_text("a = 2\n", encoding="utf-8")
    assert outcomes(files.write(files.plan(tmp_path, {}, once=once))) == {"ironclad.toml": Outcome.UNCHANGED}
    assert (tmp_path / "etc/ironclad.toml").read_text(encoding="utf-8") == "a = 2\n"


@given(st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\r")), st.integers(0, 200))
def test_every_change_is_noticed(text: str, where: int) -> None:
    whole = files.sealed(text)
    assert files.is_untouched(whole)
    at = where % len(whole)
    changed = whole[:at] + ("x" if whole[at] != "x" else "y") + whole[at + 1 :]
    assert not files.is_untouched(changed)
