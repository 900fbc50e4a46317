"""Writes `docs/api-reference.md`: `python -m ironclad.api.reference`.

It is made from the application's own description; a test fails when the page is not what this would write.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ironclad.access.roles import RIGHTS, Role
from ironclad.api import app, description

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_MADE: Final = "<!-- Made by `python -m ironclad.api.reference`; do not edit. -->"
_PAGE: Final = "api-reference.md"
_HEAD: Final = """\
[The control API](api.md) says how to use it; programs find the same in `/v1/openapi.json`. Times are ISO 8601 in UTC.
Within `/v1` keys and endpoints may come, none goes away. Any endpoint may answer with a [problem](#problem) instead."""


def page() -> str:
    """The page."""
    made = app.make()
    found = made.openapi()
    rights = description.rights(app.routes())
    lines = [_MADE, "", "# Endpoints of the control API", "", _HEAD, "", "| endpoint | | roles |", "|---|---|---|"]
    operations = [(m.upper(), path, one) for path, item in found["paths"].items() for m, one in item.items()]
    for method, path, one in operations:
        anchor = one["summary"].lower().translate(str.maketrans(" ", "-", "',."))
        roles = ", ".join(role for role in Role if rights[method, path] in RIGHTS[role])
        lines.append(f"| `{method} {path}` | [{one['summary']}](#{anchor}) | {roles} |")
    for method, path, one in operations:
        lines += ["", *_operation(method, path, one)]
    lines += ["", "## What answers and bodies hold", ""]
    for name, schema in sorted(found["components"]["schemas"].items()):
        if "enum" in schema:
            lines += [f"### {name}", "", f"One of {', '.join(f'`{one}`' for one in schema['enum'])}.", ""]
        if "properties" in schema:
            lines += [f"### {name}", "", schema.get("description", ""), "", "| key | type | |", "|---|---|---|"]
            lines += [f"| `{key}` | {_type(one)} | {_note(one)} |" for key, one in schema["properties"].items()]
            lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def _operation(method: str, path: str, one: Mapping[str, Any]) -> Iterator[str]:
    yield from [f"## {one['summary']}", "", f"`{method} {path}`", "", one["description"]]
    parameters = one.get("parameters", [])
    if parameters:
        yield from ["", "| parameter | type | |", "|---|---|---|"]
        for parameter in parameters:
            needed = "Required. " if parameter["required"] and parameter["in"] == "query" else ""
            schema = {**_given(parameter["schema"]), "description": parameter["description"]}
            yield f"| `{parameter['name']}` ({parameter['in']}) | {_type(schema)} | {needed}{_note(schema)} |"
    if "requestBody" in one:
        yield from ["", f"Body: {_content(one['requestBody']['content'])}."]
    yield ""
    for status, answer in one["responses"].items():
        if status != "default":
            yield f"* {status}: {_answer(answer)}"


def _given(schema: dict[str, Any]) -> dict[str, Any]:
    """The type of a parameter where it is given; leaving it out needs no word."""
    kinds = [one for one in schema.get("anyOf", ()) if one.get("type") != "null"]
    return {**schema, "anyOf": kinds} if kinds else schema


def _answer(answer: Mapping[str, Any]) -> str:
    said = "" if answer["description"] == "Successful Response" else answer["description"]
    content = _content(answer["content"]) if "content" in answer else ""
    return " ".join(part for part in (said, content) if part)


def _content(content: Mapping[str, Any]) -> str:
    return ", ".join(_type(one["schema"]) if one.get("schema") else f"`{kind}`" for kind, one in content.items())


def _type(schema: Mapping[str, Any]) -> str:
    if "$ref" in schema:
        name = str(schema["$ref"]).rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in schema:
        return " or ".join(_type(one) for one in schema["anyOf"])
    if schema.get("type") == "array":
        return f"list of {_type(schema['items'])}"
    words = {"date-time": "time", "uuid": "id", "object": "table", "string": "text", "boolean": "true or false"}
    return words.get(schema.get("format", ""), words.get(schema.get("type", ""), str(schema.get("type", "anything"))))


def _note(schema: Mapping[str, Any]) -> str:
    default = schema.get("default")
    said = str(schema.get("description", "")).replace("|", "\\|")
    return said if default is None else f"{said} Default: `{str(default).lower()}`."


def main(arguments: list[str]) -> int:
    """Write the page into a folder (`docs` by default)."""
    (Path(arguments[0] if arguments else "docs") / _PAGE).write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
