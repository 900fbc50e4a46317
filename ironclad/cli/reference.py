"""Writes `docs/cli.md`, `settings.md`, `errors.md` and `metrics.md`: `python -m ironclad.cli.reference`.

They are made from the commands, settings, errors and metrics themselves; a test fails when a page is not what this
would write.
"""

from __future__ import annotations

import importlib
import inspect
import json
import sys
import textwrap
import types
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, get_args, get_origin

import typer
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from ironclad.cli import exits, reference_hooks
from ironclad.cli.main import COMMANDS, PROGRAM, app
from ironclad.config import PREFIX, Settings
from ironclad.errors import CATALOGUE
from ironclad.jobs import submit  # it brings an error of its own
from ironclad.ops.metric_table import METRICS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pydantic.fields import FieldInfo

_MADE: Final = "<!-- Made by `python -m ironclad.cli.reference`; do not edit. -->"
_ALSO_ERRORS: Final = (submit,)
_WIDTH: Final = 120
_CLI: Final = (
    "Every command takes `--help`. Data goes to standard output, everything else to standard error. With `--json`, "
    "data is JSON with the keys named here (more may come, none goes away within a major version), times are ISO "
    "8601 in UTC, and an error is a JSON object with the keys `error` (`code`, `kind`, `retryable`, `what`, "
    "`detail`, `hint`, `context`) and `exit_code` on standard error. On anything but a terminal, and with "
    "`NO_COLOR` set, output is plain. Control characters in names and tags are always shown escaped."
)
_SETTINGS: Final = (
    "Defaults are overridden by a TOML file, that by the environment, that by the secrets folder, that by options. "
    "The file is the first there is of `$IRONCLAD_CONFIG`, `./ironclad.toml`, `ironclad/ironclad.toml` in the "
    "user's configuration folder, and `/etc/ironclad/ironclad.toml`. In the environment, `ingest.poll_seconds` is "
    f"`{PREFIX}INGEST__POLL_SECONDS`; lists and tables are written as JSON there. The secrets folder "
    "(`IRONCLAD_SECRETS_DIR`) holds a file for each secret, named like `database_url`; a HashiCorp Vault "
    "(`IRONCLAD_VAULT_PATH`, see security.md) comes before it. `ironclad config show "
    "--origin` says where each value came from, `ironclad config validate` names all problems at once."
)
_ERRORS: Final = (
    "Every failure has one of these codes: in `ironclad jobs show`, in `error.json`, in logs and in JSON. "
    "Retryable ones are tried again by themselves."
)
_METRICS: Final = (
    "Every service answers `/metrics` in Prometheus's text format on its own port (see [Operations](operations.md)). "
    "Names follow Prometheus's conventions: base units, `_total` for counters. No label holds a job, a path or a "
    "user. What happens in flow runs, which are short-lived processes on many hosts, the dispatcher counts from the "
    "database: nothing is lost with a process. Its counters begin at zero when it starts; where two dispatchers run, "
    "both count the same, so take `max`, not `sum`. Each service has `process_*` of its own process too. "
    "[Monitoring](monitoring.md) says how to scrape them; dashboards and alerts are in `deploy/observability/`."
)


def pages() -> dict[str, str]:
    """Every page by its file name."""
    hooks = reference_hooks.page(_MADE)
    return {
        "cli.md": cli(), "settings.md": settings(), "errors.md": errors(), "metrics.md": metrics(), "hooks.md": hooks
    }  # fmt: skip


# --- commands --------------------------------------------------------------------------------------------------------


def cli() -> str:
    """The command line."""
    root = typer.main.get_command(app)
    context = typer.Context(root, info_name=PROGRAM)
    lines = [
        _MADE, "", "# The command line", "", *_paragraphs(root.help), "",
        _wrapped(_CLI), "",
        "## Exit codes", "", "| code | meaning |", "|---:|---|",
        *(f"| {code} | {meaning} |" for code, meaning in exits.EXIT_CODES.items()), "",
        "[errors.md](errors.md) has the exit code of every error.", "",
        "## Options before the command", "", *_parameters(root, context), "## Commands", "",
        "| command | |", "|---|---|",
        *(f"| [`{entry.name}`](#{PROGRAM}-{entry.name}) | {entry.help} |" for entry in COMMANDS), "",
    ]  # fmt: skip
    for entry in COMMANDS:
        module = importlib.import_module(f"ironclad.cli.commands.{entry.module}")
        lines += _command(entry.load(), entry.name, context, getattr(module, "JSON", {}))
    return "\n".join(lines).rstrip() + "\n"


def _command(command: Any, path: str, parent: Any, keys: Mapping[str, Mapping[str, str]]) -> Iterator[str]:
    """One command, then what is below it."""
    context = typer.Context(command, info_name=path.rpartition(" ")[2], parent=parent)
    yield from [f"## {PROGRAM} {path}", "", *_paragraphs(command.help), ""]
    children = getattr(command, "commands", {})
    if not children:
        yield from ["```", _usage(command, path), "```", ""]
        yield from _parameters(command, context)
        if path in keys:
            yield from ["JSON:", "", "| key | |", "|---|---|"]
            yield from [f"| `{key}` | {meaning} |" for key, meaning in keys[path].items()]
            yield ""
    for name, child in children.items():
        yield from _command(child, f"{path} {name}", context, keys)


def _wrapped(text: str) -> str:
    return textwrap.fill(text, _WIDTH, break_on_hyphens=False, break_long_words=False)


def _paragraphs(text: str | None) -> list[str]:
    return inspect.cleandoc(text or "").splitlines()


def _parameters(command: Any, context: Any) -> list[str]:
    """The options and arguments. Not by the parser's own help, whose looks change with its version."""
    found = [_parameter(parameter) for parameter in command.get_params(context) if not parameter.hidden]
    rows = [row for row in found if row is not None]
    return ["| | |", "|---|---|", *rows, ""] if rows else []


def _parameter(parameter: Any) -> str | None:
    if "--help" in parameter.opts:
        return None
    argument = parameter.param_type_name == "argument"
    names = [] if argument else [", ".join([*sorted(parameter.opts, key=len), *parameter.secondary_opts])]
    label = " ".join([*names, *([parameter.metavar] if parameter.metavar else [])])
    notes = []
    if parameter.required and not argument:
        notes.append("Required.")
    if not (argument or parameter.is_flag or parameter.required) and parameter.default not in {None, ""}:
        notes.append(f"Default: {parameter.default}.")
    return f"| `{label}` | {' '.join([parameter.help or '', *notes]).replace('|', chr(92) + '|')} |"


def _usage(command: Any, path: str) -> str:
    words = [PROGRAM, path, "[OPTIONS]"]
    for parameter in command.params:
        if parameter.param_type_name == "argument":
            name = f"{parameter.metavar}{' …' if parameter.nargs != 1 else ''}"
            words.append(name if parameter.required else f"[{name}]")
    return " ".join(words)


# --- settings --------------------------------------------------------------------------------------------------------


def settings() -> str:
    """Every setting."""
    lines = [
        _MADE, "", "# Settings", "",
        _wrapped(_SETTINGS), "",
        "| setting | type | default | |", "|---|---|---|---|",
        *_settings_of(Settings, ""), "",
    ]  # fmt: skip
    return "\n".join(lines).rstrip() + "\n"


def _settings_of(model: type[BaseModel], prefix: str) -> Iterator[str]:
    for name, field in model.model_fields.items():
        path = f"{prefix}{name}"
        nested, suffix = _nested(field.annotation)
        if nested is not None and suffix == "":
            yield from _settings_of(nested, f"{path}.")
            continue
        kind = _type_name(field.annotation).replace("|", "\\|")
        yield f"| `{path}` | {kind} | {_default(field)} | {field.description} |"
        if nested is not None:
            yield from _settings_of(nested, f"{path}{suffix}.")


def _nested(annotation: Any) -> tuple[type[BaseModel] | None, str]:
    """The model inside a field's type, and what stands for one of many in its path."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation, ""
    suffix = ".NAME" if get_origin(annotation) is dict else "[]"
    for argument in get_args(annotation):
        if isinstance(argument, type) and issubclass(argument, BaseModel):
            return argument, suffix
    return None, ""


def _type_name(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in arguments)
    if origin is types.UnionType:
        return " or ".join(_type_name(argument) for argument in arguments if argument is not types.NoneType)
    if origin is tuple:
        return f"list of {_type_name(arguments[0])}"
    if origin is dict:
        return f"table of {_type_name(arguments[1])}"
    names = {"str": "text", "Path": "path", "int": "integer", "float": "number", "bool": "true or false"}
    name = getattr(annotation, "__name__", str(annotation))
    return names.get(name, "secret text" if name == "SecretStr" else "table")


def _default(field: FieldInfo) -> str:
    if field.default_factory is not None:
        return "computed"
    if field.default is PydanticUndefined:
        return "required"
    if field.default is None:
        return "none"
    return f"`{json.dumps(field.default)}`"


# --- errors ----------------------------------------------------------------------------------------------------------


def errors() -> str:
    """The error catalogue."""
    lines = [
        _MADE, "", "# Errors", "",
        _wrapped(_ERRORS), "",
        "| code | what happened | what to do | more | kind | retried | exit code |", "|---|---|---|---|---|---|---:|",
    ]  # fmt: skip
    for code, entry in sorted(CATALOGUE.items()):
        if entry.__module__.startswith("ironclad."):
            retried = "yes" if entry.retryable else "no"
            more = ", ".join(f"[{page.partition('.')[0]}]({page})" for page in entry.links)
            lines.append(
                f"| `{code}` | {entry.what()} | {entry.hint} | {more} | {entry.kind} | {retried} "
                f"| {exits.exit_code(entry)} |"
            )
    return "\n".join(lines) + "\n"


# --- metrics ---------------------------------------------------------------------------------------------------------


def metrics() -> str:
    """Every metric."""
    lines = [
        _MADE, "", "# Metrics", "",
        _wrapped(_METRICS), "",
        "| metric | type | unit | labels | service | |", "|---|---|---|---|---|---|",
    ]  # fmt: skip
    for spec in METRICS:
        labels = ", ".join(f"`{label}`" for label in spec.labels)
        services = "all" if spec.service == "*" else ", ".join(spec.service.split())
        unit = spec.unit.replace("_", " ")
        lines.append(f"| `{spec.name}` | {spec.type} | {unit} | {labels} | {services} | {spec.help} |")
    return "\n".join(lines) + "\n"


def main(arguments: list[str]) -> int:
    """Write the pages into a folder (`docs` by default)."""
    folder = Path(arguments[0] if arguments else "docs")
    for name, text in pages().items():
        (folder / name).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
