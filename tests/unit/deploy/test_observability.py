"""Dashboards, rules and runbooks hold together: every metric is declared, every alert is tried and has its page."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from ironclad.ops.directory import OFFSETS
from ironclad.ops.metric_table import METRICS, MetricType

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

ROOT = Path(__file__).parents[3]
HERE = ROOT / "deploy" / "observability"
RULES = (HERE / "prometheus" / "ironclad.rules.yml", HERE / "prometheus" / "ironclad.slo.yml")
FIXTURES = sorted((HERE / "prometheus").glob("*.test.yml"))
PROMTOOL = shutil.which("promtool")
needs_promtool = pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed (Debian: prometheus)")


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def boards() -> ModuleType:
    spec = importlib.util.spec_from_file_location("dashboards", ROOT / "scripts" / "dashboards.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def rules() -> Iterator[dict[str, Any]]:
    for path in RULES:
        for group in load(path)["groups"]:
            yield from group["rules"]


def alerts() -> dict[str, dict[str, Any]]:
    return {rule["alert"]: rule for rule in rules() if "alert" in rule}


def series() -> set[str]:
    """Every name that a declared metric exposes."""
    names: set[str] = set()
    for spec in METRICS:
        histogram = spec.type is MetricType.HISTOGRAM
        names |= {f"{spec.name}_{end}" for end in ("bucket", "sum", "count")} if histogram else {spec.name}
    return names


def asked(expression: str) -> set[str]:
    return set(re.findall(r"(?<!:)\bironclad_[a-z_]+(?!:)", expression))


def labels_asked(expression: str) -> Iterator[tuple[str, str]]:
    for name, inside in re.findall(r"(ironclad_[a-z_]+)\{([^}]*)\}", expression):
        for label in re.findall(r"([a-z_]+)\s*(?:=~|!=|=)", inside):
            yield name, label


def declared_labels(name: str) -> set[str]:
    base = re.sub(r"_(bucket|sum|count)$", "", name)
    spec = next(spec for spec in METRICS if spec.name in {name, base})
    return {*spec.labels, "job", "service", "instance", "le"}


def test_the_dashboards_are_what_the_table_says(boards: ModuleType) -> None:
    assert {path.stem for path in boards.FOLDER.glob("*.json")} == set(boards.DASHBOARDS)
    for name in boards.DASHBOARDS:
        text = (boards.FOLDER / f"{name}.json").read_text(encoding="utf-8")
        assert text == boards.render(name), "run `python scripts/dashboards.py`"


def test_dashboards_and_rules_ask_for_declared_metrics_and_labels_only(boards: ModuleType) -> None:
    expressions = [query for queries in boards.queries().values() for query in queries]
    expressions += [rule["expr"] for rule in rules()]
    for expression in expressions:
        assert asked(expression) <= series(), expression
        for name, label in labels_asked(expression):
            assert label in declared_labels(name), expression


def test_every_metric_is_on_a_dashboard(boards: ModuleType) -> None:
    shown = {name for queries in boards.queries().values() for query in queries for name in asked(query)}
    shown = {re.sub(r"_(bucket|sum|count)$", "", name) for name in shown}
    assert {spec.name for spec in METRICS} - shown == set()


def test_panels_do_not_overlap(boards: ModuleType) -> None:
    import json  # noqa: PLC0415 - here only

    for name in boards.DASHBOARDS:
        taken: set[tuple[int, int]] = set()
        for panel in json.loads(boards.render(name))["panels"]:
            place = panel["gridPos"]
            cells = {
                (x, y)
                for x in range(place["x"], place["x"] + place["w"])
                for y in range(place["y"], place["y"] + place["h"])
            }
            assert not cells & taken, panel["title"]
            assert place["x"] + place["w"] <= 24
            taken |= cells


@pytest.mark.parametrize("name", sorted(alerts()))
def test_every_alert_has_a_severity_and_a_page_that_names_it(name: str) -> None:
    alert = alerts()[name]
    assert alert["labels"]["severity"] in {"critical", "warning", "info"}
    page = (ROOT / alert["annotations"]["runbook"]).read_text(encoding="utf-8")
    assert f"`{name}` ({alert['labels']['severity']})" in page
    index = (ROOT / "docs" / "runbooks.md").read_text(encoding="utf-8")
    assert f"`{name}`" in index


def test_every_page_is_of_an_alert() -> None:
    pages = {alert["annotations"]["runbook"] for alert in alerts().values()}
    assert {f"docs/runbooks/{path.name}" for path in (ROOT / "docs" / "runbooks").glob("*.md")} == pages


def test_every_alert_is_tried_silent_firing_and_resolved() -> None:
    tried: dict[str, list[bool]] = {}
    for path in FIXTURES:
        for test in load(path)["tests"]:
            for look in test["alert_rule_test"]:
                tried.setdefault(look["alertname"], []).append(bool(look["exp_alerts"]))
    assert tried == {key: [False, True, False] for key in alerts()}


@needs_promtool
def test_promtool_accepts_the_rules() -> None:
    done = subprocess.run([str(PROMTOOL), "check", "rules", *RULES], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
def test_promtool_accepts_the_scrape_configuration() -> None:
    config = HERE / "prometheus" / "prometheus.yml"
    done = subprocess.run([str(PROMTOOL), "check", "config", config], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
@pytest.mark.parametrize("fixture", FIXTURES, ids=lambda path: path.name)
def test_the_alerts_do_what_they_should(fixture: Path) -> None:
    done = subprocess.run(
        [str(PROMTOOL), "test", "rules", fixture.name], capture_output=True, text=True, check=False, cwd=fixture.parent
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_scrape_configuration_has_the_ports_of_the_services() -> None:
    text = (HERE / "prometheus" / "prometheus.yml").read_text(encoding="utf-8")
    found = dict(re.findall(r'127\.0\.0\.1:96(\d\d)"\], labels: \{service: ([\w-]+)\}', text))
    assert {name: 9640 + OFFSETS[name] for name in found.values()} == {
        name: int(f"96{port}") for port, name in found.items()
    }


@pytest.mark.parametrize("path", sorted(HERE.rglob("*.yml")), ids=lambda path: str(path.relative_to(HERE)))
def test_every_example_is_yaml(path: Path) -> None:
    assert load(path)


def test_muting_names_alerts_that_there_are() -> None:
    text = (HERE / "alertmanager" / "alertmanager.yml").read_text(encoding="utf-8")
    names = set(re.findall(r"Ironclad\w+", text.replace(".*", "Fast")))
    assert names <= set(alerts())
