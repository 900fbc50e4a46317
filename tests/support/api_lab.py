"""The control API as its clients meet it: the real service on a real socket, in a thread of the test's process."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Self

import httpx

from ironclad.api.service import ApiService
from ironclad.ops.service import ServiceRuntime

if TYPE_CHECKING:
    from types import TracebackType

    from ironclad.config import Settings

PATIENCE = 60.0


class Served:
    """The service, started by `with`; its clients have the address and a deadline that no healthy answer needs."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.runtime = ServiceRuntime("api", settings, heartbeat=False)
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.failure: BaseException | None = None

    def _run(self) -> None:
        try:
            with self.runtime:
                announce = self.runtime.ready

                def ready() -> None:
                    announce()
                    self._ready.set()

                self.runtime.ready = ready  # type: ignore[method-assign]  # heard here, too
                ApiService().run(self.runtime)
        except BaseException as exc:  # noqa: BLE001 - for the test
            self.failure = exc
        finally:
            self._ready.set()

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(PATIENCE)
        if self.failure is not None:
            raise self.failure
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """As SIGTERM does."""
        self.runtime.stop()
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()

    @property
    def url(self) -> str:
        """Where it answers."""
        return str(self.runtime.facts["api"])

    def client(self, secret: str | None = None) -> httpx.Client:
        """A client with a token or without; close it."""
        headers = {} if secret is None else {"Authorization": f"Bearer {secret}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=PATIENCE, trust_env=False)
