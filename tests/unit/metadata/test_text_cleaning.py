# ruff: noqa: RUF001 -- Cyrillic letters and dashes are what these tests are about
from __future__ import annotations

import pytest

from ironclad.metadata.text import clean, code_page, repair


@pytest.mark.parametrize(
    ("dirty", "expected", "codes"),
    [
        ("plain", "plain", ()),
        ("  outer \t inner  ", "outer inner", ()),
        ("a\r\nb", "a b", ()),
        ("bell\x07", "bell", ("control-characters",)),
        ("next\x85line", "next line", ()),
        ("\ufeffBOM", "BOM", ("control-characters",)),
        ("evil\u202egpj.exe\u2066", "evilgpj.exe", ("direction-override",)),
        ("lone \ud800", "lone \ufffd", ("broken-unicode",)),
        ("שלום\u200f", "שלום\u200f", ()),
        ("\x00\u202e", "", ("control-characters", "direction-override")),
    ],
)
def test_one_line(dirty: str, expected: str, codes: tuple[str, ...]) -> None:
    assert clean(dirty) == (expected, codes)


def test_lines_stay_in_multiline_text() -> None:
    assert clean("a\r\n  b\u2028c\rd", multiline=True) == ("a\n  b\nc\nd", ())


@pytest.mark.parametrize("text", ["Группа крови", "Мария Петрова (Live)", "Земфира\nЗвезда по имени Солнце"])
def test_cyrillic_in_latin1_is_recognised_and_repaired(text: str) -> None:
    mojibake = text.encode("cp1251").decode("latin-1")
    assert code_page([mojibake]) == "cp1251"
    assert repair(mojibake, "cp1251") == text


@pytest.mark.parametrize("text", ["Café", "東京事変", "Ярость", "naïve – “quotes”"])
def test_utf8_in_latin1_is_recognised_and_repaired(text: str) -> None:
    mojibake = text.encode().decode("latin-1")
    assert code_page([mojibake]) == "utf-8"
    assert repair(mojibake, "utf-8") == text


@pytest.mark.parametrize(
    "text",
    [
        "", "plain", "Motörhead", "Sigur Rós", "ÆØÅ", "ÅÄÖ ÅÄÖ", "Ça ira", "À la carte", "Ñuñoa", "¿Qué?", "Björk ÆØÅ",
        "ÁÉÍÓÚ", "Þórður ÆÐI", "Группа", "東京", "© ® ½",
    ],
)  # fmt: skip
def test_honest_text_is_left_alone(text: str) -> None:
    assert code_page([text]) is None


def test_texts_are_judged_together() -> None:
    short = "Кино".encode("cp1251").decode("latin-1")
    assert code_page([short, "Группа".encode("cp1251").decode("latin-1")]) == "cp1251"
    assert code_page([short, "Motörhead"]) is None


def test_repair_leaves_what_does_not_fit() -> None:
    assert repair("東京", "cp1251") == "東京"
    assert repair("\x98", "cp1251") == "\x98"
