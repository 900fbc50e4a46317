from __future__ import annotations

from pathlib import Path

import pytest

from ironclad.api import app, reference

DOCS = Path(__file__).parents[3] / "docs"


def test_the_page_is_current() -> None:
    assert (DOCS / "api-reference.md").read_text(encoding="utf-8") == reference.page(), (
        "run `python -m ironclad.api.reference`"
    )


def test_it_can_be_written_elsewhere(tmp_path: Path) -> None:
    assert reference.main([str(tmp_path)]) == 0
    assert (tmp_path / "api-reference.md").read_text(encoding="utf-8") == reference.page()


@pytest.mark.parametrize("route", app.routes(), ids=lambda route: f"{sorted(route.methods)} {route.path}")
def test_every_endpoint_has_words(route: object) -> None:
    assert getattr(route, "path", "").startswith("/v1/")
    if getattr(route, "include_in_schema", True):
        assert getattr(route, "summary", "")
        assert getattr(route, "description", "").endswith((".", ".\n"))


def test_errors_are_described_as_what_they_are() -> None:
    found = app.make().openapi()
    assert "HTTPValidationError" not in found["components"]["schemas"]
    for path in found["paths"].values():
        for operation in path.values():
            assert "422" not in operation["responses"]
            assert "application/problem+json" in operation["responses"]["default"]["content"]
            for parameter in operation.get("parameters", []):
                assert parameter["description"].endswith("."), parameter["name"]
    for name, schema in found["components"]["schemas"].items():
        for key, one in schema.get("properties", {}).items():
            assert one.get("description", "").endswith((".", "…")), (name, key)
