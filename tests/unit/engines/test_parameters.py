from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ironclad.engines.parameters import Parameter, ParameterKind, problems_with, resolve
from ironclad.errors import BadRequest

NUMBER = Parameter(name="overlap", kind=ParameterKind.NUMBER, default=0.25, minimum=0.0, maximum=0.9, unit="s")
INTEGER = Parameter(name="shifts", kind=ParameterKind.INTEGER, default=0, minimum=0, maximum=10)
FLAG = Parameter(name="wiener", kind=ParameterKind.BOOLEAN, default=False)
CHOICE = Parameter(name="backend", kind=ParameterKind.CHOICE, default="auto", choices=("auto", "torch"))
ALL = (NUMBER, INTEGER, FLAG, CHOICE)


def test_defaults_fill_what_is_not_given() -> None:
    assert resolve(ALL, {}, "engine x") == {"overlap": 0.25, "shifts": 0, "wiener": False, "backend": "auto"}


def test_a_whole_number_is_a_number_and_is_spelled_one_way() -> None:
    parameter = Parameter(name="gain", kind=ParameterKind.NUMBER, default=1)
    assert repr(resolve([parameter], {"gain": 2}, "x")) == "{'gain': 2.0}"
    assert repr(resolve([parameter], {}, "x")) == "{'gain': 1.0}"


def test_all_problems_are_reported_at_once() -> None:
    wrong = {"overlap": 1.5, "shifts": 2.5, "wiener": "yes", "backend": "tpu", "overlp": 1, "zzz": 1}
    with pytest.raises(BadRequest) as caught:
        resolve(ALL, wrong, "engine demo")
    message = str(caught.value)
    for part in (
        "engine demo", "overlap must be at most 0.9 s, not 1.5", "shifts must be a whole number, not 2.5",
        "wiener must be true or false, not 'yes'", "backend must be one of auto, torch, not 'tpu'",
        "overlp is not a parameter (did you mean overlap?)", "zzz is not a parameter",
    ):  # fmt: skip
        assert part in message
    assert caught.value.context["problems"] == 6


@pytest.mark.parametrize(
    ("parameter", "value", "problem"),
    [
        (NUMBER, -0.1, "at least 0"),
        (NUMBER, math.nan, "finite"),
        (NUMBER, math.inf, "finite"),
        (NUMBER, True, "a number"),
        (NUMBER, "0.5", "a number"),
        (NUMBER, None, "a number"),
        (INTEGER, 11, "at most 10"),
        (INTEGER, True, "a number"),
        (FLAG, 1, "true or false"),
        (CHOICE, 3, "one of"),
    ],
)
def test_values_of_the_wrong_type_or_range(parameter: Parameter, value: object, problem: str) -> None:
    assert problem in problems_with([parameter], {parameter.name: value})[0]


@given(st.floats(0.0, 0.9))
def test_every_number_in_range_is_taken(value: float) -> None:
    assert resolve([NUMBER], {"overlap": value}, "x") == {"overlap": value}


@pytest.mark.parametrize(
    ("parameter", "text", "value"),
    [
        (NUMBER, "0.5", 0.5),
        (NUMBER, "half", "half"),
        (INTEGER, "3", 3),
        (INTEGER, "3.5", "3.5"),
        (FLAG, "Yes", True),
        (FLAG, "0", False),
        (FLAG, "maybe", "maybe"),
        (CHOICE, "torch", "torch"),
    ],
)
def test_text_is_parsed_or_left_for_the_check_to_refuse(parameter: Parameter, text: str, value: object) -> None:
    assert parameter.parse(text) == value
    assert type(parameter.parse(text)) is type(value)


@pytest.mark.parametrize(
    ("declaration", "message"),
    [
        ({"name": "a b", "kind": ParameterKind.NUMBER, "default": 1.0}, "identifier"),
        ({"name": "a", "kind": ParameterKind.NUMBER, "default": 1.0, "choices": ("x",)}, "choices"),
        ({"name": "a", "kind": ParameterKind.CHOICE, "default": "x"}, "choices"),
        ({"name": "a", "kind": ParameterKind.INTEGER, "default": 5, "maximum": 4}, "default must be at most 4"),
    ],
)
def test_a_declaration_that_contradicts_itself_is_refused(declaration: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Parameter(**declaration)  # type: ignore[arg-type]  # wrong on purpose
