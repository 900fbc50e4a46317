"""Text and JSON that PostgreSQL takes.

File names need not be UTF-8, engines report numbers of NumPy's types, and silence has a loudness of minus infinity.
PostgreSQL refuses lone surrogates, NUL and infinities in `jsonb`, and an event that cannot be written must not be what
stops a job from failing properly.
"""

from __future__ import annotations

import dataclasses
import json
import math
import numbers
from collections.abc import Iterable, Mapping
from typing import Any


def text(value: str) -> str:
    r"""The string as PostgreSQL can store it: undecodable bytes, lone surrogates and NUL become `\x..` and `\u....`."""
    value = str(value)  # members of a StrEnum too
    if value.isascii() and "\x00" not in value:
        return value
    value = value.replace("\x00", "\\x00")
    try:
        return value.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # a surrogate that stands for no byte
        return value.encode("utf-8", "backslashreplace").decode("utf-8")


def plain(value: Any) -> Any:
    """The value as JSON-ready data; numbers of any library stay numbers, what is not finite becomes null."""
    result: Any
    if value is None or isinstance(value, bool):
        result = value
    elif isinstance(value, str):
        result = text(value)
    elif isinstance(value, numbers.Integral):
        result = int(value)
    elif isinstance(value, numbers.Real):
        result = float(value) if math.isfinite(value) else None
    elif isinstance(value, Mapping):
        result = {text(str(key)): plain(item) for key, item in value.items()}
    elif isinstance(value, bytes):
        result = text(value.decode("utf-8", "surrogateescape"))
    elif isinstance(value, Iterable) and not isinstance(value, type):  # lists, tuples, sets, arrays
        result = [plain(item) for item in value]
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        result = {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    elif hasattr(value, "tolist"):  # a NumPy scalar that is no number: a truth value
        result = plain(value.tolist())
    else:
        result = text(str(value))
    return result


def dumps(value: Any) -> str:
    """JSON for a `jsonb` column or parameter."""
    return json.dumps(plain(value), allow_nan=False)
