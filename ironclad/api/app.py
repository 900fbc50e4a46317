"""The application: its routes, its errors, its description."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

import ironclad
from ironclad.api import (
    description,
    problems,
    routes_events,
    routes_files,
    routes_installation,
    routes_jobs,
    routes_songs,
)
from ironclad.api.gate import Gate
from ironclad.errors import IroncladError

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from ironclad.api.context import Context

ROUTERS: Final = tuple(
    module.router for module in (routes_songs, routes_jobs, routes_files, routes_events, routes_installation)
)
DESCRIPTION: Final = "Send songs, follow jobs, fetch results, operate the queue."


class _App(FastAPI):
    def openapi(self) -> dict[str, Any]:
        """The description, made once."""
        if self.openapi_schema is None:
            self.openapi_schema = description.describe(self)
        return self.openapi_schema


def routes() -> tuple[APIRoute, ...]:
    """Every endpoint, in the order of the reference."""
    return tuple(route for router in ROUTERS for route in router.routes if isinstance(route, APIRoute))


def make() -> FastAPI:
    """The application with all its routes. It answers nothing before it has a context (`serving`)."""
    app = _App(
        title="Ironclad", version=ironclad.__version__, description=DESCRIPTION, openapi_url="/v1/openapi.json",
        docs_url=None, redoc_url=None,  # both load scripts from elsewhere
        redirect_slashes=False,
    )  # fmt: skip
    handlers: dict[Any, Any] = {
        IroncladError: problems.known, RequestValidationError: problems.invalid, HTTPException: problems.plain,
    }  # fmt: skip
    for error, handler in handlers.items():
        app.add_exception_handler(error, handler)
    for router in ROUTERS:
        app.include_router(router)
    return app


def serving(context: Context) -> ASGIApp:
    """The application as the server calls it."""
    app = make()
    app.state.context = context
    return Gate(app, context)
