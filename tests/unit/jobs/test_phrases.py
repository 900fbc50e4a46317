"""Every word of `jobs why` is in one catalogue that a translator can be given."""

from __future__ import annotations

import ast
import re
import string
from pathlib import Path

import pytest

from ironclad.errors import CATALOGUE
from ironclad.jobs import explain, phrases
from ironclad.jobs.phrases import messages, say
from ironclad.jobs.states import JobState

DOCS = Path(__file__).parents[3] / "docs"


def test_the_catalogue_has_every_error_state_and_stage() -> None:
    found = messages()
    assert {f"state.{state.value}" for state in JobState} <= set(found)
    assert {f"error.{code}.{part}" for code in CATALOGUE for part in ("what", "hint")} <= set(found)
    assert all(text.strip() == text and text for text in found.values())


def test_a_translation_wins_and_english_fills_its_gaps() -> None:
    german = {"phrase.did_retry": "Es wurde {count} mal versucht."}
    assert say("phrase.did_retry", german, count=3) == "Es wurde 3 mal versucht."
    assert say("phrase.do_nothing", german) == phrases.PHRASES["do_nothing"]
    with pytest.raises(KeyError):
        say("phrase.nothing_like_that")


def _keys(source: str) -> set[str]:
    return set(re.findall(r'"((?:phrase|state|title)\.\w+)"', source))


@pytest.mark.parametrize("file", ["jobs/explain.py", "cli/commands/job_why.py"])
def test_only_keys_that_are_there_are_asked_for(file: str) -> None:
    source = (Path(explain.__file__).parents[1] / file).read_text(encoding="utf-8")
    assert _keys(source)
    assert _keys(source) <= set(messages())


def test_no_phrase_is_left_over() -> None:
    source = Path(explain.__file__).read_text(encoding="utf-8")
    source += (Path(explain.__file__).parents[1] / "cli/commands/job_why.py").read_text(encoding="utf-8")
    assert {f"phrase.{name}" for name in phrases.PHRASES} <= _keys(source)


def test_the_code_that_explains_has_no_words_of_its_own() -> None:
    tree = ast.parse(Path(explain.__file__).read_text(encoding="utf-8"))
    documentation = {
        id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    words = [
        node.value for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documentation
        and len(node.value.split()) > 1 and not node.value.startswith("%")
    ]  # fmt: skip
    assert words == []


def test_placeholders_have_names() -> None:
    for key, text in messages().items():
        if not key.startswith("error."):
            assert all(name != "" for _, name, _, _ in string.Formatter().parse(text) if name is not None), key


def _anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("code", sorted(CATALOGUE))
def test_every_error_links_to_a_page_that_is_there(code: str) -> None:
    links = CATALOGUE[code].links
    assert links
    for link in links:
        name, _, anchor = link.partition("#")
        assert (DOCS / name).is_file(), link
        assert not anchor or anchor in _anchors(DOCS / name), link
