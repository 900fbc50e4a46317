"""Where secret settings come from: a folder with a file for each, or a HashiCorp Vault.

Both name a secret like its environment variable without prefix: `database_url`, `library__scan__plex__token`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ironclad.errors import ConfigError, SecretsUnavailable

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

VARIABLES: Final = frozenset({"IRONCLAD_SECRETS_DIR", "IRONCLAD_VAULT_PATH", "IRONCLAD_VAULT_TOKEN_FILE"})
"""Environment variables that say where; Vault's own (`VAULT_ADDR`, `VAULT_TOKEN` …) come beside them."""
_PREFIX: Final = "ironclad_"
_SECONDS: Final = 10


@dataclass(frozen=True, slots=True)
class Secret:
    """One value and where it belongs: `("prefect", "redis_url")`."""

    path: tuple[str, ...]
    value: str


def _parts(name: str) -> tuple[str, ...]:
    return tuple(name.lower().removeprefix(_PREFIX).split("__"))


def from_folder(folder: Path, known: Collection[str], problems: list[str]) -> list[Secret]:
    """One file a secret; what cannot be read is a problem, what is no setting of ours is left alone.

    Args:
        folder: it.
        known: the first parts of settings' names.
        problems: grows.
    """
    try:
        files = sorted(file for file in folder.iterdir() if file.is_file())
    except OSError as exc:
        problems.append(f"secrets folder {folder}: {exc.strerror}")
        return []
    found = []
    for file in files:
        parts = _parts(file.name)
        if parts[0] not in known:
            continue
        try:
            found.append(Secret(parts, file.read_text(encoding="utf-8").strip()))
        except (OSError, UnicodeDecodeError) as exc:
            reason = exc.strerror if isinstance(exc, OSError) else "not UTF-8"
            problems.append(f"{'.'.join(parts)}: {reason} (secrets folder {folder})")
    return found


def from_vault(environ: Mapping[str, str], known: Collection[str]) -> list[Secret]:
    """The keys of one secret of a KV version 2 engine.

    Args:
        environ: `IRONCLAD_VAULT_PATH` (`MOUNT/PATH`), `IRONCLAD_VAULT_TOKEN_FILE` or `VAULT_TOKEN`, `VAULT_ADDR`,
            `VAULT_NAMESPACE`, `VAULT_CACERT`.
        known: the first parts of settings' names; other keys are left alone.

    Raises `SecretsUnavailable` if Vault does not answer or is sealed, `ConfigError` if it refuses, has no such secret,
    or what it is asked with is wrong.
    """
    mount, _, path = environ["IRONCLAD_VAULT_PATH"].strip("/").partition("/")
    if not mount or not path:
        raise ConfigError("IRONCLAD_VAULT_PATH must be MOUNT/PATH, such as secret/ironclad.")
    address = environ.get("VAULT_ADDR")
    if not address:
        raise ConfigError("IRONCLAD_VAULT_PATH is set, VAULT_ADDR is not.")
    values = _ask(environ, address, _token(environ), mount, path)
    return [Secret(_parts(name), str(value)) for name, value in sorted(values.items()) if _parts(name)[0] in known]


def _token(environ: Mapping[str, str]) -> str:
    file = environ.get("IRONCLAD_VAULT_TOKEN_FILE")
    if file is None:
        token = environ.get("VAULT_TOKEN", "")
    else:
        try:
            token = Path(file).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as exc:
            raise ConfigError(f"IRONCLAD_VAULT_TOKEN_FILE: {file} cannot be read: {exc}.") from exc
    if not token:
        raise ConfigError("There is no token for Vault: set IRONCLAD_VAULT_TOKEN_FILE (or VAULT_TOKEN).")
    return token


def _ask(environ: Mapping[str, str], address: str, token: str, mount: str, path: str) -> dict[str, Any]:
    try:
        import hvac  # noqa: PLC0415 - an extra
        import requests  # noqa: PLC0415 - comes with it
    except ImportError as exc:
        raise ConfigError("IRONCLAD_VAULT_PATH needs hvac: pip install 'ironclad-audio[vault]'.") from exc
    try:
        client = hvac.Client(
            url=address, token=token, namespace=environ.get("VAULT_NAMESPACE"), timeout=_SECONDS,
            verify=environ.get("VAULT_CACERT") or True,
        )  # fmt: skip
        answer = client.secrets.kv.v2.read_secret_version(path=path, mount_point=mount, raise_on_deleted_version=True)
        return dict(answer["data"]["data"])
    except (hvac.exceptions.Forbidden, hvac.exceptions.Unauthorized) as exc:
        raise ConfigError(f"Vault at {address} refuses the token for {mount}/{path}.") from exc
    except (hvac.exceptions.InvalidPath, KeyError, TypeError) as exc:
        raise ConfigError(f"Vault at {address} has no {mount}/{path}.") from exc
    except (hvac.exceptions.VaultError, requests.RequestException) as exc:
        raise SecretsUnavailable(f"{address}: {type(exc).__name__}") from exc
