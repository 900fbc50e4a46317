"""docs/path-templates.md says what is true."""

from __future__ import annotations

from pathlib import Path

from ironclad.library.lint import RULES, lint
from ironclad.library.naming import DEFAULT_TEMPLATE, FILTERS, KNOWN_FIELDS

DOCS = Path(__file__).parents[3] / "docs"


def test_the_template_page_names_every_field_filter_and_the_default() -> None:
    text = (DOCS / "path-templates.md").read_text(encoding="utf-8")
    assert DEFAULT_TEMPLATE in text
    assert [name for name in sorted(KNOWN_FIELDS) if f"`{name}`" not in text] == []
    assert [name for name in sorted(FILTERS - {"d"}) if f"`{name}" not in text] == []


def test_the_lint_page_names_every_rule() -> None:
    text = (DOCS / "lint.md").read_text(encoding="utf-8")
    assert lint([]) == []
    named = {rule.__name__.lstrip("_").replace("_", "-") for rule in RULES}
    listed = {line.split("`")[1] for line in text.splitlines() if line.startswith("| `")}
    # A rule's function is named as its findings are, but for the plural.
    assert {name.removesuffix("s") for name in named} == {name.removesuffix("s") for name in listed}
