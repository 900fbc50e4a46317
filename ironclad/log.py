"""structlog set-up: JSON lines with the job's identity bound, a human format on a terminal, secrets masked."""

from __future__ import annotations

import contextlib
import logging
import re
import socket
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TextIO, cast

import structlog

from ironclad.lograte import DROPPED, Limiter

if TYPE_CHECKING:
    from collections.abc import MutableMapping
    from pathlib import Path

_SECRET_KEY = re.compile(r"password|passwd|secret|token|api_?key|authorization", re.IGNORECASE)
_URL_PASSWORD = re.compile(r"(\w+://[^/\s:@]*):[^@\s/]+@")
_WORD_PASSWORD = re.compile(r"(\bpass(?:word|wd)?\s*=\s*)('[^']*'|\S+)", re.IGNORECASE)  # libpq's key=value form
_TOKEN = re.compile(r"\bicl_[A-Za-z0-9_-]{8,}")  # of the control API
_NOT_SECRET = {"lease_token"}


def masked(value: Any) -> Any:
    """A value with passwords in its texts, and whatever stands under a secret's name, replaced by `***`."""
    if isinstance(value, str):
        if "://" in value:
            value = _URL_PASSWORD.sub(r"\1:***@", value)
        if "icl_" in value:
            value = _TOKEN.sub("icl_***", value)
        return _WORD_PASSWORD.sub(r"\1***", value) if "=" in value else value
    if isinstance(value, Mapping):
        return {key: "***" if _secret(str(key)) else masked(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [masked(item) for item in value]
    return value


def _secret(key: str) -> bool:
    return _SECRET_KEY.search(key) is not None and key not in _NOT_SECRET


def _mask(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for key, value in event.items():
        event[key] = "***" if _secret(key) else masked(value)
    return event


class _OfService:
    """Puts the names of service and host into every line. Not context variables: threads begin without any."""

    def __init__(self, service: str) -> None:
        self.service = service
        self._host = socket.gethostname()

    def __call__(self, _logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        event.setdefault("service", self.service)
        event.setdefault("host", self._host)
        return event


def _dropped(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """The number of a library's lines that were left out before this one."""
    if number := getattr(event.get("_record"), DROPPED, 0):
        event[DROPPED] = number
    return event


class _Unfailing:
    """A stream whose writing never fails: a reader that went away or a full disk must not stop the work."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write if it can be."""
        with contextlib.suppress(OSError, ValueError):
            return self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush if it can be."""
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()


def configure(
    *, service: str, level: str = "INFO", human: bool | None = None, stream: TextIO | None = None, burst: int = 0,
    sample: int = 100,
) -> None:  # fmt: skip
    """Set up structlog and the standard library's logging for one process; call once, at start.

    Args:
        service: what the `service` key says in every line.
        level: lowest level that is written.
        human: coloured lines instead of JSON; None decides by whether the stream is a terminal.
        stream: where lines go; standard error by default (a command's standard output belongs to data).
        burst: lines of one event in ten seconds, see `Limiter`; 0: no limit.
        sample: beyond that, one line in so many.
    """
    out = stream or sys.stderr
    limiter = Limiter(burst, sample)
    human = out.isatty() if human is None else human
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        _OfService(service),
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
        structlog.processors.StackInfoRenderer(),
    ]
    renderer: list[structlog.typing.Processor]
    if human:
        # A plain traceback, made before masking: the renderer's own shows the frames' variables, and comes after.
        plain = structlog.dev.ConsoleRenderer(colors=out.isatty(), exception_formatter=structlog.dev.plain_traceback)
        renderer = [structlog.processors.format_exc_info, _mask, plain]
    else:
        # Without the frames' variables: they hold what nobody meant to log, connection strings first of all.
        tracebacks = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
        renderer = [structlog.processors.ExceptionRenderer(tracebacks), _mask, structlog.processors.JSONRenderer()]
    lines = cast("TextIO", _Unfailing(out))
    structlog.configure(
        processors=[structlog.processors.add_log_level, limiter, *shared, *renderer],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level]),
        logger_factory=structlog.WriteLoggerFactory(file=lines),
        cache_logger_on_first_use=False,
    )
    structlog.contextvars.clear_contextvars()
    handler = logging.StreamHandler(lines)  # libraries' own lines, in the same form
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, _dropped, structlog.stdlib.add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderer],
        )
    )
    handler.addFilter(limiter.admit)
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)


def get(**bound: Any) -> structlog.stdlib.BoundLogger:
    """A logger with more keys bound."""
    logger: structlog.stdlib.BoundLogger = structlog.get_logger(**bound)
    return logger


def service_name() -> str:
    """The name of the service whose log this process writes; empty before `configure`."""
    found = (one.service for one in structlog.get_config()["processors"] if isinstance(one, _OfService))
    return next(found, "")


def counts() -> dict[str, int]:
    """Lines that this process has logged, by level, and under `dropped` those left out; since `configure`."""
    limiters = (one for one in structlog.get_config()["processors"] if isinstance(one, Limiter))
    return next((one.counts() for one in limiters), {})


class JobLog:
    """One job's log file: JSON lines, appended to `path`, best effort.

    Lines carry the service, the host and what is bound to the context (the job's identity, attempt, stage). A log that
    cannot be written never stops the work: the first failure is logged, the rest is dropped.
    """

    def __init__(self, path: Path, service: str = "") -> None:
        self._path = path
        self._failed = False
        service = service or service_name()
        self._bound = {"host": socket.gethostname(), **({"service": service} if service else {})}
        self._render = structlog.processors.JSONRenderer()

    def write(self, **event: Any) -> None:
        """Append one event."""
        if self._failed:
            return
        whole = {**self._bound, **structlog.contextvars.get_contextvars(), **event}
        stamped = structlog.processors.TimeStamper(fmt="iso", utc=True, key="at")(None, "", whole)
        line = self._render(None, "", _mask(None, "", stamped))
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(f"{line if isinstance(line, str) else line.decode()}\n")
        except OSError as exc:
            self._failed = True
            get().warning("job_log_unwritable", path=str(self._path), error=str(exc))
