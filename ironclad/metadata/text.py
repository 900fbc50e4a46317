"""Text as it comes out of tags, made safe to show, file and compare; and mojibake repaired where that is certain."""

from __future__ import annotations

import re

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufeff\ufff9-\ufffb]")
# Embeddings, overrides and isolates reorder what follows them, so "gpj.exe" shows as "exe.jpg". The marks U+200E/200F
# only place neutral characters and belong to ordinary Arabic and Hebrew titles.
_DIRECTION = re.compile(r"[\u202a-\u202e\u2066-\u2069]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_BREAKS = re.compile(r"\r\n?|[\u2028\u2029\x85]")
_SPACES = re.compile(r"[ \t\n]+")

_WORD = re.compile(r"[A-Za-z\u00a8\u00b8\u00c0-\u00ff]+")
_HIGH = re.compile(r"[\u00a8\u00b8\u00c0-\u00ff]")
_COMMON_RUSSIAN = frozenset("оеаинтсрвлк")
_CYRILLIC = re.compile("[\u0430-\u044f\u0451]*")
_MIN_LETTERS = 4
_MIN_COMMON = 0.4
_UTF8_SEQUENCE = re.compile(rb"[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}")


def clean(text: str, *, multiline: bool = False) -> tuple[str, tuple[str, ...]]:
    """Text without what harms whoever shows it, and the codes of what was removed.

    Control characters, direction overrides and lone surrogates go; line breaks become newlines in multi-line text and a
    space elsewhere; outer space goes. Codes: `control-characters`, `direction-override`, `broken-unicode`.
    """
    codes = []
    text = _BREAKS.sub("\n", text)
    if _CONTROL.search(text):
        text = _CONTROL.sub("", text)
        codes.append("control-characters")
    if _DIRECTION.search(text):
        text = _DIRECTION.sub("", text)
        codes.append("direction-override")
    if _SURROGATE.search(text):
        text = _SURROGATE.sub("\ufffd", text)
        codes.append("broken-unicode")
    if not multiline:
        text = _SPACES.sub(" ", text)
    return text.strip(), tuple(codes)


def code_page(texts: list[str]) -> str | None:
    """The code page that these texts, read as Latin-1, were really written in: "utf-8", "cp1251" or None.

    All texts of one file are judged together, because a single short one proves little. Conservative: Western text is
    never taken for something else (its accented letters stand between ASCII letters; words of four and more accented
    letters only, made mostly of the eleven commonest Russian letters, are not Western), at the price of leaving some
    mojibake as it is.
    """
    try:
        raw = "\n".join(texts).encode("latin-1")
    except UnicodeEncodeError:
        return None
    if raw.isascii():
        return None
    if _is_utf8(raw):
        return "utf-8"
    return "cp1251" if _is_cp1251("\n".join(texts)) else None


def repair(text: str, page: str) -> str:
    """Text that was read as Latin-1 but written in `page`; unchanged where it does not fit."""
    try:
        return text.encode("latin-1").decode(page)
    except UnicodeError:
        return text


def _is_utf8(raw: bytes) -> bool:
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError:
        return False
    # Valid by chance needs every accented letter to be followed by the right control or symbol: no natural text does.
    return _UTF8_SEQUENCE.search(raw) is not None


def _is_cp1251(text: str) -> bool:
    words = _WORD.findall(text)
    cyrillic = [word for word in words if _HIGH.search(word)]
    if any(re.search("[A-Za-z]", word) for word in cyrillic):
        return False
    letters = repair("".join(cyrillic), "cp1251").lower()
    if len(letters) < _MIN_LETTERS or not _CYRILLIC.fullmatch(letters):
        return False
    longest = max(len(word) for word in cyrillic)
    common = sum(letter in _COMMON_RUSSIAN for letter in letters) / len(letters)
    return longest >= _MIN_LETTERS and common >= _MIN_COMMON
