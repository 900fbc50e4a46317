"""Typed parameters of an engine: what they may be, and checking what was asked for, all problems at once."""

from __future__ import annotations

import difflib
import enum
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ironclad.errors import BadRequest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

ParameterValue = bool | int | float | str


class ParameterKind(enum.StrEnum):
    """The type of a parameter's values."""

    INTEGER = "integer"
    NUMBER = "number"
    BOOLEAN = "boolean"
    CHOICE = "choice"


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One setting of an engine. Raises ValueError if the declaration contradicts itself."""

    name: str
    kind: ParameterKind
    default: ParameterValue
    minimum: float | None = None
    """Smallest value allowed, inclusive (numbers only)."""
    maximum: float | None = None
    """Largest value allowed, inclusive (numbers only)."""
    choices: tuple[str, ...] = ()
    unit: str = ""
    help: str = ""
    affects_result: bool = True
    """False for what changes speed or memory only: such values are left out of digests of the result."""

    def __post_init__(self) -> None:
        if not self.name.isidentifier():
            raise ValueError(f"parameter name {self.name!r} is not an identifier")
        if (self.kind is ParameterKind.CHOICE) != bool(self.choices):
            raise ValueError(f"parameter {self.name}: choices belong to kind 'choice', and only there")
        if problem := self.problem(self.default):
            raise ValueError(f"parameter {self.name}: the default {problem}")

    def problem(self, value: object) -> str:
        """What is wrong with a value, for a sentence that starts with the parameter's name; empty if nothing is."""
        if self.kind is ParameterKind.BOOLEAN:
            return "" if isinstance(value, bool) else f"must be true or false, not {value!r}"
        if self.kind is ParameterKind.CHOICE:
            return "" if value in self.choices else f"must be one of {', '.join(self.choices)}, not {value!r}"
        return self._number_problem(value)

    def parse(self, text: str) -> ParameterValue:
        """A value typed on a command line; what cannot be read is returned as it is, for `problem` to refuse."""
        if self.kind is ParameterKind.BOOLEAN:
            return {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}.get(
                text.lower(), text
            )
        if self.kind is ParameterKind.CHOICE:
            return text
        try:
            return int(text) if self.kind is ParameterKind.INTEGER else float(text)
        except ValueError:
            return text

    def to_dict(self) -> dict[str, Any]:
        """The declaration as JSON-ready data."""
        return {
            "name": self.name, "kind": self.kind.value, "default": self.default, "minimum": self.minimum,
            "maximum": self.maximum, "choices": list(self.choices), "unit": self.unit, "help": self.help,
            "affects_result": self.affects_result,
        }  # fmt: skip

    def _number_problem(self, value: object) -> str:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return f"must be a number, not {value!r}"
        if self.kind is ParameterKind.INTEGER and not isinstance(value, int):
            return f"must be a whole number, not {value!r}"
        if not math.isfinite(value):
            return f"must be finite, not {value!r}"
        if self.minimum is not None and value < self.minimum:
            return f"must be at least {self.minimum:g}{self._unit()}, not {value:g}"
        if self.maximum is not None and value > self.maximum:
            return f"must be at most {self.maximum:g}{self._unit()}, not {value:g}"
        return ""

    def _unit(self) -> str:
        return f" {self.unit}" if self.unit else ""


def problems_with(parameters: Iterable[Parameter], values: Mapping[str, object]) -> list[str]:
    """Every problem of the values given: unknown names (with close matches), wrong types, out of range."""
    known = {parameter.name: parameter for parameter in parameters}
    problems = []
    for name, value in values.items():
        if name in known:
            if problem := known[name].problem(value):
                problems.append(f"{name} {problem}")
        else:
            close = difflib.get_close_matches(name, known, n=1)
            problems.append(f"{name} is not a parameter" + (f" (did you mean {close[0]}?)" if close else ""))
    return problems


def resolve(parameters: Iterable[Parameter], values: Mapping[str, object], subject: str) -> dict[str, ParameterValue]:
    """Every parameter with its value or default. Raises `BadRequest` that lists all problems at once."""
    parameters = tuple(parameters)
    if problems := problems_with(parameters, values):
        raise BadRequest(f"{subject}: {'; '.join(problems)}", problems=len(problems))
    resolved: dict[str, ParameterValue] = {}
    for parameter in parameters:
        value = values.get(parameter.name, parameter.default)
        is_number = parameter.kind is ParameterKind.NUMBER
        # An int given for a number is the same setting: one spelling, so that digests agree.
        resolved[parameter.name] = float(value) if is_number else value  # type: ignore[arg-type, assignment]  # checked above
    return resolved
