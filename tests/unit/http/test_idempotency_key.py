"""The two headers, the two forms, and what is refused."""

from __future__ import annotations

import pytest

from falcon_wsgi.errors import MalformedRequest
from falcon_wsgi.http.idempotency_key import parse


@pytest.mark.parametrize(
    ("sent", "key"),
    [
        ("abc", "abc"),
        ('"abc"', "abc"),
        ('"a\\"b\\\\c"', 'a"b\\c'),
        ("  spaced out ", "spaced out"),
        ("a,b", "a,b"),
        ("k" * 255, "k" * 255),
        ('"' + "k" * 255 + '"', "k" * 255),
    ],
)
def test_quoted_and_bare_keys_are_read(sent: str, key: str) -> None:
    assert parse([sent], []) == key
    assert parse([], [sent]) == key


def test_no_header_is_no_key() -> None:
    assert parse([], []) is None


@pytest.mark.parametrize(
    ("standard", "extended", "reason"),
    [
        ([""], [], "empty"),
        (["   "], [], "empty"),
        (['""'], [], "empty"),
        (["k" * 256], [], "longer than 255"),
        (["a\x01b"], [], "control"),
        (["a\x7f"], [], "control"),
        (["a\x85"], [], "control"),
        (["a", "b"], [], "more than once"),
        (["a", "a"], [], "more than once"),
        (["a"], ["a"], "more than once"),
        (['"open'], [], "quoted"),
        (['"a"b"'], [], "quoted"),
        (['"bad \\n escape"'], [], "quoted"),
    ],
)
def test_keys_that_break_the_syntax_are_refused(
    standard: list[str], extended: list[str], reason: str
) -> None:
    with pytest.raises(MalformedRequest, match=reason):
        parse(standard, extended)
