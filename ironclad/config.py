"""Settings: defaults < TOML file < environment < Vault < secrets folder; all problems at once, each with its origin.

Environment names are `IRONCLAD_` + the path in upper case, nested with two underscores
(`IRONCLAD_INGEST__STABILITY_SECONDS=10`). The file is the first that exists of `$IRONCLAD_CONFIG`, `./ironclad.toml`,
the user's configuration folder and `/etc/ironclad/ironclad.toml`.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import platformdirs
from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict
from pydantic_settings.exceptions import SettingsError

from ironclad import secretsource
from ironclad.errors import ConfigError
from ironclad.layout import Layout
from ironclad.sections import (
    BackupSettings,
    LibrarySettings,
    LogSettings,
    MetadataSettings,
    NotifySettings,
    PruneSettings,
    TraceSettings,
)
from ironclad.worksections import (
    ApiSettings,
    DiskSettings,
    DispatchSettings,
    EngineSettings,
    IngestSettings,
    JobSettings,
    LimitSettings,
    OutputSettings,
    PoolSettings,
    PrefectSettings,
    RecombineSettings,
    ServiceSettings,
    VirusSettings,
    WatchRoot,
    is_loopback,
)

__all__ = [
    "PREFIX",
    "ApiSettings",
    "DiskSettings",
    "DispatchSettings",
    "EngineSettings",
    "IngestSettings",
    "JobSettings",
    "LimitSettings",
    "Loaded",
    "OutputSettings",
    "PoolSettings",
    "PrefectSettings",
    "RecombineSettings",
    "ServiceSettings",
    "Settings",
    "WatchRoot",
    "default_data_dir",
    "find_file",
    "is_loopback",
    "load",
    "load_with_origins",
]

PREFIX = "IRONCLAD_"
# Read by the loader itself, or set by our services for their children: not settings.
_LOADER_VARIABLES = secretsource.VARIABLES | {
    "IRONCLAD_CONFIG", "IRONCLAD_LOAD_PLUGINS", "IRONCLAD_SUPERVISOR_PID", "IRONCLAD_ENGINE_HOSTS",
    "IRONCLAD_ENGINE_KEEPER",
}  # fmt: skip
_TEST_PREFIX = "IRONCLAD_TEST_"  # for the test suite; never settings


def default_data_dir() -> Path:
    """The data folder when none is set: `ironclad` in the user's data folder."""
    return platformdirs.user_data_path("ironclad")


class Settings(BaseSettings):
    """Everything that can be set."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter="__", extra="forbid", frozen=True, validate_default=True
    )

    data_dir: Path = Field(default_factory=default_data_dir, description="The folder that holds everything.")
    database_url: SecretStr | None = Field(
        None, description="A PostgreSQL server (postgresql://user:password@host/name); none starts an embedded one."
    )
    ingest: IngestSettings = Field(default_factory=IngestSettings, description="Watching folders.")
    limits: LimitSettings = Field(default_factory=LimitSettings, description="What a file may be.")
    virus: VirusSettings = Field(default_factory=VirusSettings, description="Scanning for viruses.")
    engine: EngineSettings = Field(default_factory=EngineSettings, description="Separation.")
    recombine: RecombineSettings = Field(default_factory=RecombineSettings, description="What is made of the stems.")
    output: OutputSettings = Field(default_factory=OutputSettings, description="The library.")
    metadata: MetadataSettings = Field(default_factory=MetadataSettings, description="Where tags come from.")
    library: LibrarySettings = Field(default_factory=LibrarySettings, description="What media servers see.")
    jobs: JobSettings = Field(default_factory=JobSettings, description="Leases and retries.")
    pools: dict[str, PoolSettings] = Field(
        default_factory=lambda: {"cpu": PoolSettings()}, description="Work pools served on this machine."
    )
    dispatch: DispatchSettings = Field(default_factory=DispatchSettings, description="From the queue to Prefect.")
    prefect: PrefectSettings = Field(default_factory=PrefectSettings, description="The Prefect server.")
    services: ServiceSettings = Field(default_factory=ServiceSettings, description="Health and metrics.")
    api: ApiSettings = Field(default_factory=ApiSettings, description="The control API.")
    disk: DiskSettings = Field(default_factory=DiskSettings, description="The disk floor.")
    prune: PruneSettings = Field(default_factory=PruneSettings, description="What is deleted after a while.")
    backup: BackupSettings = Field(default_factory=BackupSettings, description="Dumps of the database.")
    log: LogSettings = Field(default_factory=LogSettings, description="Logs.")
    trace: TraceSettings = Field(default_factory=TraceSettings, description="OpenTelemetry spans.")
    notify: NotifySettings = Field(default_factory=NotifySettings, description="Telling people.")

    @classmethod
    def settings_customise_sources(cls, *_sources: Any, **sources: Any) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what `load` gathered: else this process's environment would come in beside the one that was given."""
        return (sources["init_settings"],)

    @field_validator("database_url")
    @classmethod
    def _is_postgresql(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not re.match(r"postgres(ql)?(\+\w+)?://", value.get_secret_value()):
            raise ValueError("must begin with postgresql://")
        return value

    @property
    def layout(self) -> Layout:
        """The data folder's paths."""
        return Layout(self.data_dir.expanduser().absolute())

    @property
    def watch_roots(self) -> tuple[WatchRoot, ...]:
        """The watched folders, the default one included."""
        return self.ingest.roots or (WatchRoot(path=self.layout.input),)


class Loaded:
    """Settings and, for each value that was set, where it came from."""

    def __init__(self, settings: Settings, origins: Mapping[str, str], file: Path | None) -> None:
        self.settings = settings
        self.origins = origins
        self.file = file

    def origin(self, path: str) -> str:
        """Where the value at a dotted path came from; `default` if nobody set it."""
        probe = path
        while probe:
            if probe in self.origins:
                return self.origins[probe]
            probe = probe.rpartition(".")[0]
        # A table: where something in it came from.
        return next((origin for name, origin in self.origins.items() if name.startswith(f"{path}.")), "default")


def find_file(environ: Mapping[str, str]) -> Path | None:
    """The settings file in force, or None. A file named by `IRONCLAD_CONFIG` must exist."""
    named = environ.get("IRONCLAD_CONFIG")
    if named:
        path = Path(named)
        if not path.is_file():
            raise ConfigError(f"IRONCLAD_CONFIG names {path}, which is not a file.")
        return path
    for path in (
        Path("ironclad.toml"),
        platformdirs.user_config_path("ironclad") / "ironclad.toml",
        Path("/etc/ironclad/ironclad.toml"),
    ):
        try:
            if path.is_file():
                return path
        except PermissionError as exc:  # settings may be there that matter: not to be passed over in silence
            raise ConfigError(f"{path} cannot be looked at: {exc.strerror}; name another in IRONCLAD_CONFIG.") from exc
    return None


def _flatten(data: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in data.items():
        path = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            flat.update(_flatten(value, f"{path}."))
        else:
            flat[path] = value
    return flat


def _merge(base: dict[str, Any], over: Mapping[str, Any]) -> None:
    for key, value in over.items():
        if isinstance(value, Mapping) and isinstance(base.get(key), dict):
            _merge(base[key], value)
        else:
            base[key] = dict(value) if isinstance(value, Mapping) else value


def _env_name(path: str) -> str:
    return PREFIX + path.replace(".", "__").upper()


def _from_environment(environ: Mapping[str, str], problems: list[str]) -> dict[str, Any]:
    """What the environment sets, as nested data; names that mean nothing are problems."""
    ours = {
        k: v
        for k, v in environ.items()
        if k.startswith(PREFIX) and k not in _LOADER_VARIABLES and not k.startswith(_TEST_PREFIX)
    }
    tops = {name.upper(): name for name in Settings.model_fields}
    data: dict[str, Any] = {}
    for name, value in sorted(ours.items()):
        if name.removeprefix(PREFIX).split("__")[0] not in tops:
            problems.append(f"{name}: no such setting (environment variable {name})")
            continue
        try:  # one at a time, so that each problem is reported with its variable
            _merge(data, _variable(name, value))
        except SettingsError:
            problems.append(f"{name}: not valid JSON (environment variable {name})")
    return data


def _variable(name: str, value: str) -> dict[str, Any]:
    class Source(EnvSettingsSource):
        def _load_env_vars(self) -> Mapping[str, str | None]:
            return {name.lower(): value}

    return dict(Source(Settings)())


def _placed(secrets: list[secretsource.Secret]) -> dict[str, Any]:
    data: dict[str, Any] = {}
    for secret in secrets:
        value: Any = secret.value
        for part in reversed(secret.path):
            value = {part: value}
        _merge(data, value)
    return data


def _sources(
    file: Path | None, environ: Mapping[str, str], overrides: Mapping[str, Any], problems: list[str]
) -> Iterator[tuple[Mapping[str, Any], str]]:
    """Each source's data, weakest first, with words for where a value at `{}` came from."""
    if file is not None:
        try:
            yield tomllib.loads(file.read_text(encoding="utf-8")), f"file {file}"
        except (tomllib.TOMLDecodeError, OSError, UnicodeDecodeError) as exc:
            problems.append(f"file {file}: {exc}")
    yield _from_environment(environ, problems), "environment variable {}"
    if vault := environ.get("IRONCLAD_VAULT_PATH"):
        yield _placed(secretsource.from_vault(environ, Settings.model_fields)), f"Vault {vault}"
    secrets = environ.get("IRONCLAD_SECRETS_DIR")
    if secrets and Path(secrets).is_dir():
        found = secretsource.from_folder(Path(secrets), Settings.model_fields, problems)
        yield _placed(found), f"secrets folder {secrets}"
    elif secrets:
        problems.append(f"IRONCLAD_SECRETS_DIR names {secrets}, which is not a folder")
    yield overrides, "command line"


def load_with_origins(overrides: Mapping[str, Any] | None = None, environ: Mapping[str, str] | None = None) -> Loaded:
    """Read all sources. Raises `ConfigError` that lists every problem with the origin of each value.

    Args:
        overrides: nested values that win over all sources (command-line options).
        environ: the environment to read; the process's own by default.
    """
    environ = os.environ if environ is None else environ
    problems: list[str] = []
    merged: dict[str, Any] = {}
    origins: dict[str, str] = {}
    file = find_file(environ)
    for data, describe in _sources(file, environ, overrides or {}, problems):
        for path in _flatten(data):
            origins[path] = describe.replace("{}", _env_name(path))
        _merge(merged, data)

    settings: Settings | None = None
    try:
        settings = Settings.model_validate(merged)
    except ValidationError as exc:
        lookup = Loaded(Settings.model_construct(), origins, file)
        for error in exc.errors(include_url=False, include_input=False):
            path = ".".join(str(part) for part in error["loc"])
            message = (
                "no such setting" if error["type"] == "extra_forbidden" else error["msg"].removeprefix("Value error, ")
            )
            problems.append(f"{path}: {message} ({lookup.origin(path)})")
    if problems or settings is None:
        raise ConfigError("".join(f"\n  - {problem}" for problem in problems), problems=len(problems))
    return Loaded(settings, origins, file)


def load(overrides: Mapping[str, Any] | None = None, environ: Mapping[str, str] | None = None) -> Settings:
    """Read all sources; see `load_with_origins`."""
    return load_with_origins(overrides, environ).settings
