"""The engine contract in pytest: `pytest --engine NAME`, or a test module of a plugin that imports `test_engine`.

Each check is a test. A failure says what the engine did and what its author has to do; a check that makes no sense for
an engine, or not before another one passes, is skipped and says so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

try:
    import pytest
except ModuleNotFoundError as exc:  # no dependency of Ironclad itself
    raise ModuleNotFoundError("The contract runs in pytest: pip install 'ironclad-audio[testing]'") from exc

from ironclad.testing import conduct, inputs, samples
from ironclad.testing.verdict import Broken, Check, NotJudged

if TYPE_CHECKING:
    from collections.abc import Callable

    from ironclad.testing.bench import Bench

CHECKS = (*samples.CHECKS, *conduct.CHECKS, *inputs.CHECKS)
"""The whole contract."""


def judge(check: Check, bench: Bench) -> tuple[str, str]:
    """A check's verdict: `passed`, `broken` or `not judged`, and what there is to say."""
    try:
        check.run(bench)
    except Broken as exc:
        return "broken", str(exc)
    except NotJudged as exc:
        return "not judged", str(exc)
    return "passed", ""


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
def test_engine(check: Check, engine_bench: Bench, record_property: Callable[[str, Any], None]) -> None:
    """One check of the contract; the engine is that of the fixture `engine_target`."""
    known = set(engine_bench.figures)
    verdict, text = judge(check, engine_bench)
    for name in engine_bench.figures.keys() - known:
        record_property(f"{engine_bench.target.label}: {name}", engine_bench.figures[name])
    if verdict == "broken":
        pytest.fail(f"{engine_bench.target.label}: {check.name}: {text}", pytrace=False)
    if verdict == "not judged":
        pytest.skip(text)
