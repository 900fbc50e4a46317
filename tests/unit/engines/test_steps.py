from __future__ import annotations

import os
import sys
import time

import pytest

from ironclad.engines import steps

ENVIRON = {"PATH": os.environ["PATH"], "TOLD": "so"}


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_lines_are_handed_on_in_order_with_the_status_and_the_last_of_them() -> None:
    said: list[str] = []
    many = "import os, sys; [print(n, flush=True) for n in range(20)]; print(flush=True)"
    code = f"{many}; print(os.environ['TOLD'], file=sys.stderr); sys.exit(3)"
    ended = steps.run(python(code), ENVIRON, said.append, seconds=60)
    assert said == [*map(str, range(20)), "", "so"]
    assert ended == steps.Ended(3, (*map(str, range(6, 20)), "so"))


def test_only_errors_are_listened_to_where_the_output_is_not_for_people() -> None:
    said: list[str] = []
    code = "import sys; print('data'); print('why', file=sys.stderr)"
    assert steps.run(python(code), ENVIRON, said.append, seconds=60, errors_only=True) == steps.Ended(0, ("why",))
    assert said == ["why"]


def test_a_step_that_hangs_is_killed() -> None:
    began = time.monotonic()
    ended = steps.run(python("import time; time.sleep(300)"), ENVIRON, lambda _line: None, seconds=0.2)
    assert ended.status == -9
    assert time.monotonic() - began < 60


@pytest.mark.parametrize("raised", [KeyboardInterrupt, RuntimeError])
def test_what_the_listener_raises_ends_the_step(raised: type[BaseException]) -> None:
    def refuse(_line: str) -> None:
        raise raised

    began = time.monotonic()
    with pytest.raises(raised):
        steps.run(python("print(1, flush=True); import time; time.sleep(300)"), ENVIRON, refuse, seconds=250)
    assert time.monotonic() - began < 60


def test_a_program_that_is_not_there_is_an_error_of_the_caller() -> None:
    with pytest.raises(FileNotFoundError):
        steps.run(["/no/such/program"], ENVIRON, lambda _line: None, seconds=1)
