"""What a run and the keeper of hosts say to each other: one JSON object a line on a Unix socket.

run → keeper   {"op": "separate", "order": {…}}    then nothing; closing the socket cancels
{"op": "stats"}
keeper → run   {"event": "waiting", "reason": "…"}
{"event": "progress", "done": 1, "total": 9, "written": 44100}
{"event": "done", "separation": {…}}
{"event": "error", "code": "E_…", "detail": "…", "context": {…}}
{"event": "stats", …}
"""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ironclad.engines.hosts import Order
from ironclad.engines.plan import HostPlan
from ironclad.engines.separation import Resources, Separation, SeparationRequest, StemFile
from ironclad.errors import EngineProtocol, IroncladError, Unexpected

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_LINE: Final = 1 << 20


def encode(data: Mapping[str, Any]) -> bytes:
    """One line."""
    return json.dumps(data, separators=(",", ":"), default=str).encode() + b"\n"


def decode(line: bytes) -> dict[str, Any]:
    """The object in a line. Raises `EngineProtocol`."""
    try:
        data = json.loads(line)
    except ValueError as exc:
        raise EngineProtocol(f"the keeper of the engines says {line[:80]!r}") from exc
    if not isinstance(data, dict):
        raise EngineProtocol(f"the keeper of the engines says {line[:80]!r}")
    return data


def order_data(order: Order) -> dict[str, Any]:
    """An order as JSON-ready data."""
    request = {spec.name: getattr(order.request, spec.name) for spec in fields(order.request)}
    request |= {
        "input": str(order.request.input), "output": str(order.request.output), "stems": list(order.request.stems),
        "params": dict(order.request.params),
    }  # fmt: skip
    return {"plan": order.plan.to_dict(), "request": request, "copies": order.copies, "need": order.need}


def order_of(data: Mapping[str, Any]) -> Order:
    """An order out of JSON data. Raises `EngineProtocol`."""
    try:
        request = dict(data["request"])
        request |= {name: Path(request[name]) for name in ("input", "output")}
        request["stems"] = tuple(request["stems"])
        return Order(
            plan=HostPlan.from_dict(data["plan"]), request=SeparationRequest(**request),
            copies=int(data["copies"]), need=int(data["need"]),
        )  # fmt: skip
    except (KeyError, TypeError, ValueError) as exc:
        raise EngineProtocol(f"not an order: {exc}") from exc


def separation_data(result: Separation) -> dict[str, Any]:
    """A result as JSON-ready data."""
    stems = {name: {**asdict(stem), "path": str(stem.path)} for name, stem in result.stems.items()}
    return {
        "stems": stems, "seconds": result.seconds, "params": result.params, "resumed": result.resumed,
        "used": asdict(result.used), "backend": result.backend,
    }  # fmt: skip


def separation_of(data: Mapping[str, Any]) -> Separation:
    """A result out of JSON data. Raises `EngineProtocol`."""
    try:
        stems = {name: StemFile(**{**stem, "path": Path(stem["path"])}) for name, stem in data["stems"].items()}
        return Separation(
            stems, float(data["seconds"]), dict(data["params"]), int(data["resumed"]), Resources(**data["used"]),
            str(data.get("backend", "")),
        )  # fmt: skip
    except (KeyError, TypeError, ValueError, AttributeError) as exc:
        raise EngineProtocol(f"not a result: {exc}") from exc


def error_data(error: BaseException) -> dict[str, Any]:
    """A failure as JSON-ready data."""
    if not isinstance(error, IroncladError):
        error = Unexpected(f"{type(error).__name__}: {error}")
    return {"event": "error", "code": error.code, "detail": error.detail, "context": dict(error.context)}


def error_of(data: Mapping[str, Any]) -> IroncladError:
    """The catalogue's error out of JSON data."""
    context = data.get("context")
    made = IroncladError.from_code(str(data.get("code")), str(data.get("detail") or ""))
    made.context.update(context if isinstance(context, dict) else {})
    return made
