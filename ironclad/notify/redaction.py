"""Taking a channel's secrets out of whatever is said about it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    from ironclad.notify.contract import Channel

_SHORTEST: Final = 4
_HARMLESS: Final = {"http", "https", "localhost", "127.0.0.1", "true", "false", "text", "html", "markdown"}
_URL: Final = re.compile(r"\b[a-z][a-z0-9+.-]*://\S+", re.IGNORECASE)
_LONGEST: Final = 300


def secret_parts(url: str) -> set[str]:
    """Everything in a service URL that might be a secret: for many services, a part of the path or the host is one."""
    parts = {url}
    try:
        split = urlsplit(url)
        host = split.hostname or ""
    except ValueError:  # not a URL at all
        return parts
    user, _, address = split.netloc.rpartition("@")
    parts |= {*user.split(":"), address, host, *split.path.split("/"), *re.split(r"[&=]", split.query), split.fragment}
    parts |= {unquote(part) for part in parts}
    return {part for part in parts if len(part) >= _SHORTEST and part.lower() not in _HARMLESS}


def redacted(text: str, channel: Channel) -> str:
    """The text in one line, of bounded length, without what the channel's URL and secret are made of, or any URL."""
    words = secret_parts(channel.url) | ({channel.secret} if channel.secret else set())
    text = _URL.sub("***", " ".join(str(text).split()))
    for word in sorted(words, key=len, reverse=True):
        text = text.replace(word, "***")
    return text[:_LONGEST]
