"""The options that stand before the command, and what follows from them: settings, logs, environment."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    import typer

    from ironclad.config import Loaded, Settings


@dataclass(frozen=True, slots=True)
class GlobalOptions:
    """`ironclad [--data-dir …] [--config …] [-v] COMMAND`."""

    data_dir: Path | None = None
    config: Path | None = None
    verbose: bool = False

    def environ(self) -> dict[str, str]:
        """The environment in which these options are in force."""
        environ = dict(os.environ)
        if self.config is not None:
            environ["IRONCLAD_CONFIG"] = str(self.config.absolute())
        if self.data_dir is not None:
            environ["IRONCLAD_DATA_DIR"] = str(self.data_dir.absolute())
        return environ

    def loaded(self) -> Loaded:
        """The settings with their origins. Raises `ConfigError`."""
        from ironclad import config  # noqa: PLC0415 - `ironclad --help` must not import pydantic

        overrides: dict[str, Any] = {} if self.data_dir is None else {"data_dir": self.data_dir.absolute()}
        return config.load_with_origins(overrides, self.environ())

    def settings(self, *, quiet: bool = False) -> Settings:
        """The settings, with logging set up for a command: warnings on standard error, everything with -v.

        Args:
            quiet: errors only (a live display is on the terminal).
        """
        from ironclad import log  # noqa: PLC0415 - as above

        settings = self.loaded().settings
        level = "DEBUG" if self.verbose else "ERROR" if quiet else "WARNING"
        log.configure(service="cli", level=level)
        return settings

    def export(self) -> None:
        """Make the options part of this process's environment, for children that read their settings themselves."""
        os.environ.update(self.environ())


def of(context: typer.Context) -> GlobalOptions:
    """The options of the command that is running."""
    return context.obj if isinstance(context.obj, GlobalOptions) else GlobalOptions()


def actor() -> str:
    """Who gives the command, for the audit trail."""
    import getpass  # noqa: PLC0415 - used by few commands

    try:
        return f"cli:{getpass.getuser()}"
    except (OSError, KeyError):  # a user id without a name, as in many containers
        return f"cli:{os.getuid()}"
