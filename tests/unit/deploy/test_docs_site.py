"""The documents: a strict site, links that lead somewhere, and commands, settings and errors that there are."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import pytest

from ironclad.cli.main import COMMANDS
from ironclad.cli.reference import errors as errors_page
from ironclad.cli.reference import settings as settings_page

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[3]
DOCS = ROOT / "docs"
OURS = (
    "quickstart",
    "install",
    "operations",
    "upgrading",
    "runbooks",
    "security",
    "scaling",
    "releasing",
    "deployment",
)
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]
GENERATED = {"cli.md", "settings.md", "errors.md"}
_LINK = re.compile(r"(?<!\!)\[[^\]]*\]\(([^)\s]+)\)")
_FENCE = re.compile(r"^(`{3,}).*?^\1", re.MULTILINE | re.DOTALL)


def prose(page: Path) -> str:
    return re.sub(r"`[^`\n]*`", "", _FENCE.sub("", page.read_text(encoding="utf-8")))


def anchors(page: Path) -> set[str]:
    """The anchors that headings get (GitHub's and Markdown's rules agree on ours)."""
    found = set()
    for line in _FENCE.sub("", page.read_text(encoding="utf-8")).splitlines():
        if line.startswith("#"):
            title = re.sub(r"[`*]|\[|\]\([^)]*\)", "", line.lstrip("#").strip()).lower()
            found.add(re.sub(r"[\s]+", "-", re.sub(r"[^\w\s-]", "", title)))
    return found


def broken(page: Path) -> Iterator[str]:
    for target in _LINK.findall(prose(page)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        lost = anchor and file.suffix == ".md" and file.exists() and anchor not in anchors(file)
        if lost or not file.exists():
            yield f"{page.name}: {target}"


def test_every_internal_link_leads_somewhere() -> None:
    assert [problem for page in PAGES for problem in broken(page)] == []


def test_a_link_that_leads_nowhere_is_found(tmp_path: Path) -> None:
    page = tmp_path / "a.md"
    page.write_text("# One\n[x](b.md) [y](#one) [z](#two) `[no](link.md)` [w](https://a.example/b)\n", encoding="utf-8")
    assert list(broken(page)) == ["a.md: b.md", "a.md: #two"]


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    build = [sys.executable, "-W", "ignore", "-m", "mkdocs", "build", "--strict", "--quiet"]
    done = subprocess.run(
        [*build, "--site-dir", tmp_path / "site"], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "site/index.html").exists()
    for page in (tmp_path / "site").rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        loaded = re.findall(r'<(?:script|link|img)[^>]+(?:src|href)="(https?://[^"]+)"', text)
        assert loaded == [], f"{page.name} loads from elsewhere"
        assert "```" not in text, f"{page.name}: a fence that is none turns text into code, and code into text"
    assert dead_links(tmp_path / "site") == []


class Links(HTMLParser):
    """The ids of a page and where its links lead."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.targets: list[str] = []
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id" and value:
                self.ids.add(value)
            elif (tag, name) in {("a", "href"), ("link", "href"), ("img", "src"), ("script", "src")} and value:
                self.targets.append(value)


def dead_links(site: Path) -> list[str]:
    """Links of a built site that lead to no file, or to no place in it."""
    pages = {page: Links(page) for page in site.rglob("*.html") if page.name != "404.html"}
    found = []
    for page, links in pages.items():
        for target in links.targets:
            parts = urlsplit(target)
            if parts.scheme or parts.netloc or target in {"#", "."}:
                continue
            base = site if parts.path.startswith("/") else page.parent
            file = (base / unquote(parts.path).lstrip("/")).resolve() if parts.path else page
            file = file / "index.html" if file.is_dir() else file
            lost = parts.fragment and file in pages and unquote(parts.fragment) not in pages[file].ids
            if not file.exists() or lost:
                found.append(f"{page.relative_to(site)}: {target}")
    return found


def test_dead_links_of_a_site_are_found(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text('<h1 id="x"></h1><a href="#x"></a><a href="#y"></a><a href="b.html"></a>')
    assert dead_links(tmp_path) == ["a.html: #y", "a.html: b.html"]


def shown(name: str) -> Iterator[list[str]]:
    """Every `ironclad …` command line of a page's code, words of shell around it left out."""
    text = (DOCS / f"{name}.md").read_text(encoding="utf-8")
    blocks = [block[2] for block in re.findall(r"^(```+)(\w.*)?\n(.*?)^\1", text, re.MULTILINE | re.DOTALL)]
    blocks += [line[4:] for line in text.splitlines() if line.startswith("    ")]
    blocks += re.findall(r"`(ironclad [^`]+)`", text)
    for line in "\n".join(blocks).splitlines():
        found = re.search(r"(?:^|\s|/)ironclad ((?:--)?[a-z][^#|;&<>(]*)", line)
        if found and not line.startswith(("#", "data_dir", "pg_")) and "pip install" not in line:
            yield shlex.split(found[1].replace('"$', '"').replace(" …", ""))


def problem(words: list[str]) -> str:
    """What is wrong with a command line, judged by the commands themselves."""
    while words and words[0].startswith("--"):
        words = words[1:]
    entries = {entry.name: entry for entry in COMMANDS}
    if not words:
        return ""
    if words[0] not in entries:
        return f"no command {words[0]}"
    command: Any = entries[words[0]].load()
    words = words[1:]
    while getattr(command, "commands", {}):
        if not words:
            return ""
        if words[0] not in command.commands:
            return f"no command {words[0]}"
        command, words = command.commands[words[0]], words[1:]
    known = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    return ", ".join(
        word for word in words if word.startswith("--") and word.partition("=")[0] not in {*known, "--help"}
    )


@pytest.mark.parametrize("name", [*OURS, "concepts"])
def test_every_command_that_is_shown_is_one(name: str) -> None:
    assert [(words, problem(words)) for words in shown(name) if problem(words)] == []


def test_commands_are_found_and_judged() -> None:
    assert len([words for name in OURS for words in shown(name)]) > 40
    assert problem(["jobs", "replay", "--frum", "x"]) == "--frum"
    assert problem(["frobnicate"])
    assert problem(["jobs", "frobnicate"])
    assert not problem(["jobs", "replay", "0192", "--from", "separate"])


@pytest.mark.parametrize("name", OURS)
def test_settings_and_error_codes_that_are_named_are_ones(name: str) -> None:
    text = (DOCS / f"{name}.md").read_text(encoding="utf-8")
    sections = "ingest|limits|engine|output|metadata|library|jobs|pools|dispatch|prefect|services|disk|backup|prune|log"
    settings = set(re.findall(rf"`((?:{sections})\.[a-z_.]+)(?: = [^`]*)?`", text)) - {"prefect.md"}
    assert {one for one in settings if f"| `{one}` |" not in settings_page()} == set()
    assert {code for code in re.findall(r"\bE_[A-Z_]+", text) if f"| `{code}` |" not in errors_page()} == set()


def test_every_page_of_ours_is_in_the_index() -> None:
    index = (DOCS / "index.md").read_text(encoding="utf-8")
    assert {page.name for page in DOCS.glob("*.md")} - {"index.md"} == set(re.findall(r"\((\w[\w-]*\.md)\)", index))


def test_the_systemd_guide_is_what_the_machine_test_does() -> None:
    guide = (DOCS / "install.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^<!-- systemd -->\n```sh\n(.*?)^```", guide, re.MULTILINE | re.DOTALL)
    driver = (ROOT / "tests/e2e/systemd_lab/drive.sh").read_text(encoding="utf-8").splitlines()
    done = [line.split(" > ")[0] for line in driver]
    steps = [done.index(line) for line in block.splitlines()]
    assert steps == sorted(steps)
