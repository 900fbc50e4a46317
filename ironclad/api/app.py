"""The application: its routes, its errors, its description."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

import ironclad
from ironclad.api import problems
from ironclad.api.gate import Gate
from ironclad.errors import IroncladError

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from ironclad.api.context import Context

DESCRIPTION = "Send songs, follow jobs, fetch results, operate the queue."


def make() -> FastAPI:
    """The application with all its routes. It answers nothing before it has a context (`serving`)."""
    app = FastAPI(
        title="Ironclad", version=ironclad.__version__, description=DESCRIPTION, openapi_url="/v1/openapi.json",
        docs_url=None, redoc_url=None,  # both load scripts from elsewhere
        redirect_slashes=False,
    )  # fmt: skip
    handlers: dict[Any, Any] = {
        IroncladError: problems.known, RequestValidationError: problems.invalid, HTTPException: problems.plain,
    }  # fmt: skip
    for error, handler in handlers.items():
        app.add_exception_handler(error, handler)
    return app


def serving(context: Context) -> ASGIApp:
    """The application as the server calls it."""
    app = make()
    app.state.context = context
    return Gate(app, context)
