"""`docs/hooks.md`, made from the hook specifications."""

from __future__ import annotations

import ast
import inspect
import textwrap
from typing import TYPE_CHECKING, Any, Final

from ironclad.engines import contract, parameters
from ironclad.library import scan
from ironclad.notify import contract as notify
from ironclad.plugins import hookspecs

if TYPE_CHECKING:
    from collections.abc import Iterator

PASSED: Final = (
    contract.EngineSpec, contract.ModelSpec, contract.MemoryModel, parameters.Parameter, contract.PrivateEnvironment,
    scan.ScanTrigger, notify.NotifierKind, notify.Channel, notify.Notifier, notify.Message,
)  # fmt: skip
"""The types that hooks pass, in the order in which the page shows them."""
_HEAD: Final = """# Hooks

What a plugin can implement. A plugin is a distribution with an entry point in the group `ironclad` that names a module;
the module states the version of the hooks that it was written for and marks its functions:

```python
from ironclad.plugins.hookspecs import hookimpl

IRONCLAD_API = {version}


@hookimpl
def {name}{signature}: ...
```

```toml
[project.entry-points.{group}]
mine = "my_package.plugin"
```

`ironclad plugins list` shows what became of it. A plugin that cannot be imported, states another version, implements a
hook that there is not, or raises, is shown as broken with the reason; everything else goes on without it.
`IRONCLAD_LOAD_PLUGINS=` (empty) loads no plugin but ours, `IRONCLAD_LOAD_PLUGINS=a,b` those. Functions may leave out
arguments that they do not need. The version goes up when a plugin written for it would break.

[Write a plugin](plugin-authors.md) makes one in half an hour: `ironclad plugins new engine NAME` and `… notifier NAME`
write packages that work, with tests; `pytest --engine NAME` puts any engine to the contract.
"""


def hooks() -> dict[str, Any]:
    """Every hook by its name."""
    return {name: call for name, call in vars(hookspecs).items() if name.startswith("ironclad_")}


def page(made: str) -> str:
    """The page.

    Args:
        made: the line that says who wrote it.
    """
    first, call = next(iter(hooks().items()))
    head = _HEAD.format(version=hookspecs.API_VERSION, name=first, signature=_signature(call), group=hookspecs.GROUP)
    lines = [made, "", head]
    for name, call in hooks().items():
        lines += [f"## `{name}`", "", "```python", f"def {name}{_signature(call)}", "```", ""]
        lines += [*textwrap.wrap(inspect.getdoc(call) or "", 120), ""]
    lines += ["## What they pass", ""]
    for passed in PASSED:
        lines += [f"### {passed.__name__}", "", f"`{passed.__module__}.{passed.__name__}`: {_sentence(passed)}", ""]
        lines += ["| | | |", "|---|---|---|", *_members(passed), ""]
    return "\n".join(lines).rstrip() + "\n"


def _signature(call: Any) -> str:
    return str(inspect.signature(call)).replace("'", "")


def _sentence(passed: type[Any]) -> str:
    return " ".join((inspect.getdoc(passed) or "").partition("\n\n")[0].split())


def _members(passed: type[Any]) -> Iterator[str]:
    """Fields with type and the string below them; of a protocol, its methods."""
    (body,) = ast.parse(textwrap.dedent(inspect.getsource(passed))).body
    assert isinstance(body, ast.ClassDef)  # noqa: S101 - the source of a class is one
    following = [*body.body[1:], None]
    for node, after in zip(body.body, following, strict=True):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            text = after.value.value if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) else ""
            default = "" if node.value is None else f" = {ast.unparse(node.value)}"
            yield _row(f"{node.target.id}", f"{ast.unparse(node.annotation)}{default}", str(text))
        elif isinstance(node, ast.FunctionDef) and not node.name.startswith("_") and _is_protocol(body):
            arguments = ast.unparse(node.args)
            yield _row(
                f"{node.name}({arguments})", ast.unparse(node.returns or ast.Constant(None)), ast.get_docstring(node)
            )


def _is_protocol(body: ast.ClassDef) -> bool:
    return any(ast.unparse(base) == "Protocol" for base in body.bases)


def _row(name: str, kind: str, text: str | None) -> str:
    cells = (f"`{name}`", f"`{kind}`", " ".join((text or "").split()))
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
