"""Ironclad's end of an engine host: start it, give it work, watch it, and turn whatever happens into our errors."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self, TypeVar

from ironclad.engines import failures, models
from ironclad.engines.child import Child, clean_environment
from ironclad.engines.host import protocol
from ironclad.engines.oom import OomWatch
from ironclad.engines.plan import plan
from ironclad.engines.separation import (
    Progress,
    Resources,
    Separation,
    SeparationRequest,
    check_input,
    checked_stems,
    resolved,
)
from ironclad.errors import (
    BadRequest,
    EngineDied,
    EngineFailed,
    EngineProtocol,
    EngineStalled,
    ErrorKind,
    IroncladError,
    ModelBroken,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ironclad.engines.contract import EngineSpec
    from ironclad.engines.plan import HostPlan
    from ironclad.engines.separation import HostSettings

_Event = TypeVar("_Event", bound=protocol.Message)

_POLL_SECONDS = 0.2
_EXIT_SECONDS = 2.0
_LAST_WORDS_SECONDS = 1.0
_TAIL_LENGTH = 4000


class Host:
    """A warm host: one engine, one model, one device, any number of recordings, one after the other.

    Use it as a context manager. After an error that ended the process, `alive` is False and the host is of no more
    use. Not for two threads at a time: the second one is refused.
    """

    def __init__(self, made: HostPlan, argv: Callable[[int], Sequence[str]] | None = None) -> None:
        """`argv`: another host program (given our process id) than the plan's."""
        self.plan = made
        self.settings = made.settings
        environ = clean_environment(os.environ, self.settings.threads)
        name = f"engine-{made.engine}"
        self._child = Child(argv or made.argv, environ, max_line=protocol.MAX_LINE, name=name)
        self._oom: OomWatch | None = None
        self._lock = threading.Lock()
        self._last_id = 0
        self._alive = False
        self._settled = False
        self._separations = 0

    def start(self, check: Callable[[], None] | None = None) -> Self:
        """Start the process and load the model.

        Raises `EngineStalled` when either takes too long, `PluginBroken`, `ModelBroken`, `OutOfMemory`, `EngineDied`,
        `EngineProtocol`, `EngineFailed` if the model's files were replaced before, and whatever `check` (polled a few
        times a second) raises.
        """
        self._child.start()
        self._alive, self._oom = True, OomWatch(self._child.pid)
        with self._conversation():
            hello = self._expect(protocol.Hello, 0, self.settings.start_seconds, check)
            if hello.protocol != protocol.PROTOCOL:
                raise EngineProtocol(f"the host speaks version {hello.protocol}, this Ironclad {protocol.PROTOCOL}")
            request = protocol.Load(self._next_id(), self.plan.model, self.plan.model_folder, self.plan.device)
            self._child.send(protocol.encode_request(request))
            try:
                self._expect(protocol.Loaded, request.id, self.settings.load_seconds, check)
            except ModelBroken:
                self._refuse_replaced()  # which may be why
                raise
            self._refuse_replaced()
        return self

    def __enter__(self) -> Self:
        return self if self._alive else self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def alive(self) -> bool:
        """Whether it can take work: started, not ended by an error, its process running."""
        return self._alive and self._child.exit_status() is None

    @property
    def separations(self) -> int:
        """How many recordings it has finished."""
        return self._separations

    @property
    def pid(self) -> int:
        """Process id of the host."""
        return self._child.pid

    def separate(
        self,
        request: SeparationRequest,
        *,
        progress: Callable[[Progress], None] | None = None,
        check: Callable[[], None] | None = None,
    ) -> Separation:
        """Separate one recording; returns when the stems are on disk.

        The request names its stems and all parameters. `progress` gets each step; `check` is polled a few times a
        second. Either stops the separation by raising (`Cancelled`, `LeaseLost`, `Drained`, …): the engine is asked to
        stop, killed if it does not within `cancel_seconds`, and the exception goes on. Raises `InputError`s as the
        engine names them, `OutOfMemory`, `DiskFull`, `EngineFailed`, `EngineDied`, `EngineStalled`, `EngineProtocol`,
        `OutputInvalid`, `BadRequest`.
        """
        check_input(request)
        with self._conversation():
            message = protocol.Separate(
                id=self._next_id(), input=str(request.input.resolve()), frames=request.frames,
                channels=request.channels, rate=request.rate, output=str(request.output.resolve()),
                stems=list(request.stems), params=dict(request.params), resume=request.resume, keep=request.keep,
            )  # fmt: skip
            self._child.send(protocol.encode_request(message))
            try:
                done = self._expect(protocol.Done, message.id, self.settings.stall_seconds, check, progress)
            except _Interrupted as exc:
                self._stop(message.id)
                raise exc.reason from None
            stems = checked_stems(request, done)
            self._separations += 1
            used = Resources(
                pid=self.pid, separations=self._separations, rss=done.rss, peak_rss=done.peak_rss,
                device_bytes=done.device_bytes, device_peak_bytes=done.device_peak_bytes,
            )  # fmt: skip
            return Separation(stems, done.seconds, dict(request.params), done.resumed, used, done.backend)

    def ping(self, seconds: float = 5.0) -> None:
        """Ask for a sign of life. Raises as `separate` does; `EngineStalled` if there is none in time."""
        with self._conversation():
            request = protocol.Ping(self._next_id())
            self._child.send(protocol.encode_request(request))
            self._expect(protocol.Pong, request.id, seconds)

    def stats(self, seconds: float = 5.0) -> protocol.Stats:
        """Memory and processor time of the host. Raises as `ping` does."""
        with self._conversation():
            request = protocol.GetStats(self._next_id())
            self._child.send(protocol.encode_request(request))
            return self._expect(protocol.Stats, request.id, seconds)

    def close(self) -> None:
        """Let it exit, kill it if it does not at once, with every process that it started. May be called twice."""
        if self._alive:
            with contextlib.suppress(IroncladError):
                self._child.send(protocol.encode_request(protocol.Shutdown()))
            self._end(grace=self.settings.cancel_seconds)

    def _refuse_replaced(self) -> None:
        """Raise `EngineFailed` if the files that were loaded may be another model's than was meant.

        Between the order and its host lies the wait for memory and for room. The results would bear the digest of one
        model and be made by another, here and for whoever shares the warm host.
        """
        made = self.plan
        now = models.digest_in(Path(made.model_folder), made.model) if made.weights and made.model_folder else None
        if now is not None and now != made.weights:
            raise EngineFailed(f"model {made.model} was replaced before it was loaded; the next try takes the new one")

    # --- the conversation --------------------------------------------------------------------------------------------

    def _next_id(self) -> int:
        self._last_id += 1
        return self._last_id

    @contextlib.contextmanager
    def _conversation(self) -> Iterator[None]:
        """One request and its answer. An exception that leaves the host in an unknown state ends it."""
        if not self._lock.acquire(blocking=False):
            raise BadRequest("the engine host is busy with another recording")
        try:
            if not self._alive:
                raise EngineDied("the host has ended already")
            self._settled = False
            try:
                yield
            except BaseException as exc:
                reason: BaseException = exc.reason if isinstance(exc, _Interrupted) else exc
                if not self._settled:
                    self._end()
                if isinstance(reason, IroncladError) and reason.kind is not ErrorKind.CONTROL:
                    reason.context.setdefault("engine", self.plan.engine)
                    reason.context.setdefault("model", self.plan.model)
                    reason.context.setdefault("stderr", self._child.stderr_tail()[-_TAIL_LENGTH:])
                if reason is exc:
                    raise
                raise reason from None
        finally:
            self._lock.release()

    def _end(self, grace: float = 0.0) -> None:
        self._alive = False
        self._child.end(grace)

    def _stop(self, request_id: int) -> None:
        """Ask for the end of a separation; unless the host confirms it in time, it is ended with it."""
        with contextlib.suppress(IroncladError):
            self._child.send(protocol.encode_request(protocol.Cancel(request_id)))
            deadline = time.monotonic() + self.settings.cancel_seconds
            while (event := self._next(deadline)) is not None:
                if isinstance(event, protocol.CancelledEvent | protocol.Done | protocol.Failure):
                    self._settled = event.id == request_id and not getattr(event, "fatal", False)
                    return

    def _expect(
        self,
        wanted: type[_Event],
        request_id: int,
        patience: float,
        check: Callable[[], None] | None = None,
        progress: Callable[[Progress], None] | None = None,
    ) -> _Event:
        """The answer to a request.

        Raises what the host reports, `EngineStalled` after `patience` seconds without progress, `EngineProtocol`,
        `EngineDied`, `OutOfMemory`, and `_Interrupted` around what `check` or `progress` raise.
        """
        latest = Progress(0, 0, 0)
        deadline = time.monotonic() + patience
        while True:
            with _interruptible():
                if check is not None:
                    check()
            event = self._next(min(deadline, time.monotonic() + _POLL_SECONDS))
            if event is None:
                if time.monotonic() >= deadline:
                    raise EngineStalled(f"no progress for {patience:g} s (at {latest.fraction:.0%})")
                continue
            self._refuse_unexpected(event, wanted, request_id)
            if isinstance(event, wanted):
                return event
            if isinstance(event, protocol.Progress):
                step = _advanced(latest, event)
                if (step.done, step.written) != (latest.done, latest.written):
                    deadline = time.monotonic() + patience
                latest = step
                with _interruptible():
                    if progress is not None:
                        progress(step)

    def _refuse_unexpected(self, event: protocol.Message, wanted: type[protocol.Message], request_id: int) -> None:
        if isinstance(event, protocol.Failure):
            self._settled = not event.fatal and event.id == request_id
            raise failures.named(event)
        if getattr(event, "id", 0) != request_id or not isinstance(event, wanted | protocol.Progress):
            raise EngineProtocol(f"an unexpected {event.tag!r}")

    def _next(self, deadline: float) -> protocol.Message | None:
        """The next event, None at the deadline. Raises `EngineProtocol`, `EngineDied`, `OutOfMemory`."""
        if self._oom is not None:
            self._oom.look()
        line = self._child.receive(max(0.0, deadline - time.monotonic()))
        if line is None and self._child.exit_status() is not None:
            # A process that it left behind may hold the pipe open, so its end is not announced by end of file.
            line = self._child.receive(_LAST_WORDS_SECONDS) or b""
        if line is None:
            return None
        if not line:
            status = self._child.exit_status(_EXIT_SECONDS)
            raise failures.death(status, kernel_killed=self._oom is not None and self._oom.killed())
        try:
            return protocol.decode_event(line)
        except protocol.ProtocolError as exc:
            raise EngineProtocol(str(exc)) from exc


class EngineHost(Host):
    """A host of an engine that is declared here: what a request leaves open gets its defaults, and is checked."""

    def __init__(
        self,
        spec: EngineSpec,
        *,
        model: str = "",
        device: str = "cpu",
        settings: HostSettings | None = None,
        interpreter: Path | None = None,
        model_folder: Path | None = None,
        argv: Callable[[int], Sequence[str]] | None = None,
    ) -> None:
        """`interpreter`: the Python of a private environment; `argv`: another host program (given our process id)."""
        made = plan(
            spec, model=model, device=device, settings=settings, interpreter=interpreter, model_folder=model_folder
        )
        super().__init__(made, argv)
        self.spec = spec

    def separate(
        self,
        request: SeparationRequest,
        *,
        progress: Callable[[Progress], None] | None = None,
        check: Callable[[], None] | None = None,
    ) -> Separation:
        """As `Host.separate`. Raises `BadRequest` for parameters and stems that the engine does not have."""
        return super().separate(resolved(self.spec, self.plan.model, request), progress=progress, check=check)


class _Interrupted(Exception):
    """The caller's `check` or `progress` raised `reason`."""

    def __init__(self, reason: BaseException) -> None:
        self.reason = reason
        super().__init__(str(reason))


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Tell what the caller's own functions raise from what goes wrong with the host."""
    try:
        yield
    except BaseException as exc:
        raise _Interrupted(exc) from exc


def _advanced(before: Progress, event: protocol.Progress) -> Progress:
    """The next step. Raises `EngineProtocol` if it goes back or beyond the end."""
    if event.done > event.total or event.done < before.done or event.written < before.written:
        raise EngineProtocol(f"progress {event.done}/{event.total} after {before.done}/{before.total}")
    return Progress(event.done, event.total, event.written)
