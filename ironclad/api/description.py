"""The description of the API for programs (OpenAPI), as its errors really are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from fastapi.openapi.utils import get_openapi

from ironclad.api import models, problems
from ironclad.api.auth import RIGHT

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fastapi import FastAPI
    from fastapi.routing import APIRoute

    from ironclad.access.roles import Right

_REF: Final = "#/components/schemas/Problem"
_NEVER: Final = "422"
"""The framework's own answer to a wrong request; ours is a problem with status 400."""


def describe(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document."""
    found = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
    schemas = found["components"]["schemas"]
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    schemas["Problem"] = models.Problem.model_json_schema()
    problem = {"description": "An error.", "content": {problems.MEDIA_TYPE: {"schema": {"$ref": _REF}}}}
    for path in found["paths"].values():
        for operation in path.values():
            operation["responses"].pop(_NEVER, None)
            operation["responses"]["default"] = problem
    return found


def rights(routes: Iterable[APIRoute]) -> dict[tuple[str, str], Right]:
    """The right that each method and path needs. Raises StopIteration for a route that forgot to ask for one."""
    return {
        (method, route.path): next(
            getattr(one.call, RIGHT) for one in route.dependant.dependencies if hasattr(one.call, RIGHT)
        )
        for route in routes
        for method in sorted(route.methods or ())
    }
