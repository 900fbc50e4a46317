"""The host's loop: requests in, one separation at a time on the main thread, events out."""

from __future__ import annotations

import errno
import importlib
import os
import queue
import sys
import threading
import time
import traceback
from typing import TYPE_CHECKING

import numpy as np

from ironclad.engines.host import process
from ironclad.engines.host.api import EngineError, LoadRequest, SeparationCancelled
from ironclad.engines.host.pcm import PcmReader, PcmSinks
from ironclad.engines.host.protocol import (
    EXIT_OUT_OF_MEMORY,
    KINDS,
    MAX_LINE,
    PROTOCOL,
    Cancel,
    CancelledEvent,
    Done,
    Failure,
    GetStats,
    Hello,
    Load,
    Loaded,
    Message,
    Ping,
    Pong,
    Progress,
    ProtocolError,
    Separate,
    Shutdown,
    Stats,
    decode_request,
    encode_event,
)

if TYPE_CHECKING:
    from ironclad.engines.host.api import Separator

_PROGRESS_SECONDS = 0.1
_MESSAGE_LENGTH = 2000
_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "cannot allocate memory", "bad_alloc", "unable to allocate")
_NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT})


class Channel:
    """The two ends of the pipe. Events may be sent from any thread."""

    def __init__(self, requests: int, events: int) -> None:
        # Unbuffered: a buffered reader's lock, held by the listening thread, would abort the interpreter's exit.
        self._requests = os.fdopen(requests, "rb", buffering=0)
        self._events = events
        self._lock = threading.Lock()

    def send(self, event: Message) -> None:
        """Write one event; a parent that no longer reads ends the host."""
        line = encode_event(event)
        with self._lock:
            try:
                while line:
                    line = line[os.write(self._events, line) :]
            except BrokenPipeError:
                process.end_group()

    def receive(self) -> bytes:
        """The next line; empty when the parent has closed its end."""
        return self._requests.readline(MAX_LINE + 1)


class Server:
    """One engine host: `entry` is `module:callable` of its engine."""

    def __init__(self, channel: Channel, entry: str) -> None:
        self._channel = channel
        self._entry = entry
        self._work: queue.Queue[Message] = queue.Queue()
        self._cancelled: set[int] = set()
        self._separator: Separator | None = None
        self._started = time.monotonic()
        self._jobs = 0

    def run(self) -> int:
        """Serve until `shutdown`; the exit status."""
        python = ".".join(str(part) for part in sys.version_info[:3])
        self._channel.send(Hello(PROTOCOL, os.getpid(), python, np.__version__, self._entry))
        threading.Thread(target=self._listen, name="requests", daemon=True).start()
        while True:
            request = self._work.get()
            if isinstance(request, Shutdown):
                return 0
            if failure := self._serve(request):
                self._channel.send(failure)
                if failure.fatal:
                    return EXIT_OUT_OF_MEMORY

    def _listen(self) -> None:
        """Read requests while the main thread works; the end of the pipe means that nobody wants us any more."""
        while line := self._channel.receive():
            try:
                request = decode_request(line)
            except ProtocolError as exc:
                self._channel.send(Failure(0, "engine", "E_ENGINE_PROTOCOL", str(exc)))
                continue
            if isinstance(request, Cancel):
                self._cancelled.add(request.id)
            elif isinstance(request, Ping):
                self._channel.send(Pong(request.id))
            elif isinstance(request, GetStats):
                self._channel.send(self._stats(request.id))
            else:
                self._work.put(request)
        process.end_group()

    def _serve(self, request: Message) -> Failure | None:
        """Do what is asked; what went wrong, if anything."""
        try:
            if isinstance(request, Load):
                self._load(request)
            elif isinstance(request, Separate):
                self._separate(request)
        except SeparationCancelled:
            self._channel.send(CancelledEvent(_id(request)))
        except (Exception, SystemExit) as exc:  # noqa: BLE001  # engines raise anything, and some call sys.exit
            traceback.print_exc()
            return _failure(_id(request), exc, loading=isinstance(request, Load))
        return None

    def _load(self, request: Load) -> None:
        began = time.monotonic()
        if self._separator is None:
            self._separator = _make(self._entry)
        self._separator.load(LoadRequest(request.model, request.folder, request.device))
        self._channel.send(Loaded(request.id, time.monotonic() - began))

    def _separate(self, request: Separate) -> None:
        if self._separator is None:
            raise EngineError("model", "no model is loaded")
        began = time.monotonic()
        reader = PcmReader(request.input, frames=request.frames, channels=request.channels, rate=request.rate)
        try:
            resume = request.resume if getattr(self._separator, "resumes", False) else 0
            sinks = PcmSinks(
                request.output, request.stems, frames=request.frames, channels=request.channels,
                resume=resume, keep=request.keep,
            )  # fmt: skip
            process.forget_peak()
            try:
                report = _Reporter(self._channel, sinks, request.id, self._cancelled)
                self._separator.separate(reader, sinks, request.params, report, report.is_cancelled)
                if report.is_cancelled():
                    raise SeparationCancelled
                stems = sinks.finish()
            finally:
                sinks.discard()
        finally:
            reader.close()
            self._cancelled.discard(request.id)
        self._jobs += 1
        rss, peak_rss = process.memory_bytes()
        device, device_peak = self._device_memory()
        done = Done(
            id=request.id, seconds=time.monotonic() - began, stems=stems, resumed=resume, rss=rss, peak_rss=peak_rss,
            device_bytes=device, device_peak_bytes=device_peak, backend=self._backend(),
        )  # fmt: skip
        self._channel.send(done)

    def _device_memory(self) -> tuple[int, int]:
        """Bytes on the device now and at their peak, where the engine tells; it is of no more use than to know."""
        try:
            now, peak = getattr(self._separator, "device_memory", lambda: (0, 0))()
            return max(0, int(now)), max(0, int(peak))
        except Exception:  # noqa: BLE001  # an engine's courtesy must not cost the finished stems
            traceback.print_exc()
            return 0, 0

    def _backend(self) -> str:
        """What ran the networks, where the engine tells."""
        backend = getattr(self._separator, "backend", "")
        return backend if isinstance(backend, str) else ""

    def _stats(self, request_id: int) -> Stats:
        rss, peak_rss = process.memory_bytes()
        return Stats(
            id=request_id,
            rss=rss,
            peak_rss=peak_rss,
            cpu_seconds=time.process_time(),
            uptime_seconds=time.monotonic() - self._started,
            jobs=self._jobs,
        )


class _Reporter:
    """The `progress` callable of one separation: sends at most ten events a second and raises when cancelled."""

    def __init__(self, channel: Channel, sinks: PcmSinks, request_id: int, cancelled: set[int]) -> None:
        self._channel = channel
        self._sinks = sinks
        self._id = request_id
        self._cancelled = cancelled
        self._next = 0.0
        self._done = 0

    def __call__(self, done: int, total: int) -> None:
        if self.is_cancelled():
            raise SeparationCancelled
        now = time.monotonic()
        if now >= self._next or done >= total:
            self._next = now + _PROGRESS_SECONDS
            self._done = max(self._done, int(done))
            self._channel.send(Progress(self._id, self._done, max(self._done, int(total)), self._sinks.frames))

    def is_cancelled(self) -> bool:
        return self._id in self._cancelled


def _id(request: Message) -> int:
    number = getattr(request, "id", 0)
    return number if isinstance(number, int) else 0


def _make(entry: str) -> Separator:
    """The engine's separator. Raises `EngineError` if its code is not there."""
    module_name, _, attribute = entry.partition(":")
    try:
        separator: Separator = getattr(importlib.import_module(module_name), attribute)()
    except (ImportError, AttributeError) as exc:
        raise EngineError("engine", f"{entry} cannot be imported: {exc}", "E_PLUGIN") from exc
    return separator


def _failure(request_id: int, exc: BaseException, *, loading: bool) -> Failure:
    """What an exception means to the client."""
    if isinstance(exc, EngineError):
        kind = exc.kind if exc.kind in KINDS else "engine"
        return Failure(request_id, kind, exc.code, str(exc)[:_MESSAGE_LENGTH], fatal=kind == "oom")
    message = f"{type(exc).__name__}: {exc}"[:_MESSAGE_LENGTH]
    if _is_out_of_memory(exc):
        return Failure(request_id, "oom", "", message, fatal=True)
    if isinstance(exc, OSError) and exc.errno in _NO_SPACE:
        return Failure(request_id, "storage", "E_DISK_FULL", message)
    return Failure(request_id, "model" if loading else "engine", "", message)


def _is_out_of_memory(exc: BaseException) -> bool:
    # Frameworks raise RuntimeError of their own; the message is all they have in common.
    text = str(exc).lower()
    if isinstance(exc, MemoryError) or (isinstance(exc, OSError) and exc.errno == errno.ENOMEM):
        return True
    return isinstance(exc, RuntimeError) and any(hint in text for hint in _OUT_OF_MEMORY)
