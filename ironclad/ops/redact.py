"""Taking out what a stranger must not read: secrets, home folders, other people's names."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pydantic import BaseModel, SecretStr

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

_PATTERNS: Final = (
    (re.compile(r"(\w[\w+.-]*://[^/\s:@\"']*):[^@\s/\"']+@"), r"\1:***@"),  # a password in a URL
    (re.compile(r"\bicl_[A-Za-z0-9_-]{8,}"), "icl_***"),
    (re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}"), r"\1 ***"),
    (
        re.compile(
            r"(?i)([\"']?(?:password|passwd|secret|token|api_?key|authorization)[\"']?\s*[:=]\s*[\"']?)"
            r"(?!(?:null|None|true|false)\b)[^\s\"',{}\[\]]+"  # JSON stays JSON
        ),
        r"\1***",
    ),
)  # fmt: skip
_SHORTEST: Final = 4  # a shorter value would be found everywhere


class Redactor:
    """Replaces what must not be seen, in any text.

    Args:
        settings: where secrets are; each `SecretStr` in it is taken out, wherever it appears.
        data_dir: shown as `$DATA`.
        users: other users' names, each shown as `user-N`.
        environ: the environment; values of variables with secret names are taken out.
    """

    def __init__(
        self, settings: BaseModel, data_dir: Path, users: Iterable[str] = (), environ: Mapping[str, str] | None = None
    ) -> None:
        environ = os.environ if environ is None else environ
        words: dict[str, str] = {str(data_dir): "$DATA"}
        home = str(Path(environ.get("HOME", "") or Path.home()))
        if len(home) > 1:
            words[home] = "~"
        for secret in {*secrets(settings), *_of_environment(environ)}:
            words[secret] = "***"
        for number, user in enumerate(sorted(set(users)), 1):
            words[user] = f"user-{number}"
        # The longest first, so that a part never uncovers the rest. Names count as whole words only.
        names = sorted((word for word in words if word), key=len, reverse=True)
        parts = [rf"\b{re.escape(w)}\b" if words[w].startswith("user-") else re.escape(w) for w in names]
        self._pattern = re.compile("|".join(parts)) if parts else None
        self._words = words

    def text(self, text: str) -> str:
        """The text without them."""
        if self._pattern is not None:
            text = self._pattern.sub(lambda match: self._words[match[0]], text)
        for pattern, replacement in _PATTERNS:
            text = pattern.sub(replacement, text)
        return text


def secrets(model: BaseModel) -> Iterator[str]:
    """Every secret value in settings, and the passwords in URLs among them."""
    for name in type(model).model_fields:
        yield from _secrets_of(getattr(model, name))


def _secrets_of(value: Any) -> Iterator[str]:
    if isinstance(value, SecretStr):
        raw = value.get_secret_value()
        password = re.search(r"://[^/\s:@]*:([^@\s/]+)@", raw)
        parts = _tokens(raw) if "://" in raw else ()
        yield from (found for found in (raw, password[1] if password else "", *parts) if len(found) >= _SHORTEST)
    elif isinstance(value, BaseModel):
        yield from secrets(value)
    elif isinstance(value, dict):
        for one in value.values():
            yield from _secrets_of(one)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _secrets_of(one)


def _tokens(url: str) -> Iterator[str]:
    """Parts of a secret URL that look like tokens: a service's own log may show them in another URL."""
    for part in re.split(r"[/:@?&=,;#]+", url):
        if len(part) >= 2 * _SHORTEST and re.search(r"\d", part) and re.search(r"[A-Za-z]", part) and "." not in part:
            yield part


def _of_environment(environ: Mapping[str, str]) -> Iterator[str]:
    for name, value in environ.items():
        if re.search(r"PASSWORD|SECRET|TOKEN|API_?KEY", name, re.IGNORECASE) and len(value) >= 2 * _SHORTEST:
            yield value
