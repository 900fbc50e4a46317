# ruff: noqa: RUF001 -- look-alike characters are what these tests are about
from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ironclad.library.names import MAX_COMPONENT, MAX_FILE, component, file_name, folded, numbered, shortened


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Plain Title", "Plain Title"),
        ("AC/DC", "AC-DC"),
        ("a\\b|c", "a-b-c"),
        ("Live: 1999", "Live - 1999"),
        ('The "Best"', "The 'Best'"),
        ("<3>", "(3)"),
        ("Why?", "Why"),
        ("*NSYNC", "_NSYNC"),
        ("..", "_"),
        (".", "_"),
        ("../../etc/passwd", "-..-etc-passwd"),
        ("/etc/passwd", "-etc-passwd"),
        ("...And Justice for All", "And Justice for All"),
        ("R.E.M.", "R.E.M"),
        ("trailing . . ", "trailing"),
        ("nul\0byte\x1b[0m", "nulbyte[0m"),
        ("line\nbreak\u2028two", "line break two"),
        ("evil\u202egpj.exe\u2069", "evilgpj.exe"),
        ("\ufeffBOM\u200b", "BOM"),
        ("lone\ud800", "lone"),
        ("e\u0301", "é"),
        ("می\u200cخواهم", "می\u200cخواهم"),
        ("CON", "_CON"),
        ("nul.tar", "_nul.tar"),
        ("com1", "_com1"),
        ("COM¹", "_COM¹"),
        ("Console", "Console"),
        ("", "_"),
        ("???", "_"),
        ("\u202e", "_"),
    ],
)
def test_components(text: str, expected: str) -> None:
    assert component(text) == expected


def test_the_fallback_stands_for_nothing() -> None:
    assert component(" . ", fallback="Unknown Artist") == "Unknown Artist"


def test_long_names_keep_suffix_and_version() -> None:
    name = file_name("т" * 300 + " (Instrumental)", ".flac", fallback="x")
    assert len(name.encode()) <= MAX_FILE
    assert name.endswith("т (Instrumental).flac")


def test_names_are_cut_between_characters() -> None:
    assert shortened("aé", 2) == "a"
    assert shortened("ab\u0308c", 3) == "a"
    assert shortened("👩\u200d🚀 x", 8) == "👩"
    assert shortened("word next", 5) == "word"
    assert shortened("x (a very long version that takes more than half)", 20) == "x (a very long versi"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.flac", "a (2).flac"),
        ("a", "a (2)"),
        (".hidden", ".hidden (2)"),
        ("x" * 250 + ".flac", "x" * 246 + " (2).flac"),
    ],
)
def test_numbers_tell_doubles_apart(name: str, expected: str) -> None:
    assert numbered(name, 2) == expected


def test_what_windows_takes_for_the_same() -> None:
    assert folded("ÉTÉ") == folded("été") == folded("e\u0301te\u0301")
    assert folded("a") != folded("b")


FORBIDDEN = set('<>:"/\\|?*')


@given(st.text(max_size=400), st.sampled_from([20, 100, MAX_COMPONENT]))
def test_any_text_becomes_a_safe_component(text: str, limit: int) -> None:
    name = component(text, limit=limit)
    assert 0 < len(name.encode()) <= limit
    assert not FORBIDDEN & set(name)
    assert not name.startswith((".", " "))
    assert not name.endswith((".", " "))
    assert all(unicodedata.category(character) not in {"Cc", "Cs", "Cn"} for character in name)
    assert not any("\u202a" <= character <= "\u202e" or "\u2066" <= character <= "\u2069" for character in name)
    assert component(name, limit=limit) == name, "it is stable"


@given(st.text(max_size=300))
def test_file_names_keep_their_suffix(text: str) -> None:
    name = file_name(text, ".flac", fallback="Unknown Title")
    assert name.endswith(".flac")
    assert len(name.encode()) <= MAX_FILE
