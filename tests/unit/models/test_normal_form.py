"""NFC is Unicode's own, and marks in any number do not hold the event loop."""

from __future__ import annotations

import random
import sys
import unicodedata
from itertools import pairwise
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from falcon_wsgi.models.normal_form import nfc

MARKS = [
    chr(code)
    for code in range(sys.maxunicode + 1)
    if all(map(unicodedata.combining, unicodedata.normalize("NFD", chr(code))))
]
LETTERS = "aeo\u00e9\u1ec7\u0915\uac00\u0627\U0001d15e "


def runs() -> st.SearchStrategy[str]:
    """A letter and the marks behind it: few, or more than any text has."""
    marks = st.builds(
        lambda seed, length: "".join(random.Random(seed).choices(MARKS, k=length)),
        st.integers(0, 2**32),
        st.integers(0, 400),
    )
    return st.builds(str.__add__, st.sampled_from(LETTERS), marks)


@given(st.lists(runs() | st.text(max_size=40), max_size=5).map("".join))
def test_is_what_unicode_says_whatever_the_text_holds(text: str) -> None:
    assert nfc(text) == unicodedata.normalize("NFC", text)


@pytest.mark.parametrize("hidden", ["\u0f73", "\u0f75", "\u0f81", "\u0344"])
def test_marks_that_decompose_into_marks_are_ordered_too(hidden: str) -> None:
    text = "a" + hidden * 300 + "\u0323" * 300
    assert nfc(text) == unicodedata.normalize("NFC", text)


@pytest.mark.parametrize("marks", [MARKS, ["\u0f73"], ["\u0345", "\u0301", "\u0323"]])
def test_insertion_sort_gets_long_runs_only_in_order(
    marks: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "a" + "".join(random.Random(3).choices(marks, k=10_000))
    expected, sort, handed_over = unicodedata.normalize("NFC", text), unicodedata.normalize, []

    def recorded(form: Literal["NFC", "NFD"], part: str) -> str:
        handed_over.append("".join(sort("NFD", character) for character in part))
        return sort(form, part)

    monkeypatch.setattr(unicodedata, "normalize", recorded)
    assert nfc(text) == expected
    assert max(map(moves, handed_over)) <= 1


def moves(text: str) -> int:
    """Marks that stand right behind one of a higher class."""
    classes = list(map(unicodedata.combining, text))
    return sum(0 < after < before for before, after in pairwise(classes))
