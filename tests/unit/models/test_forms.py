"""What passes for an input, what it becomes, and what it is told apart by."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from falcon_wsgi.models.forms import TabularForm, TextForm, form_of, issues_of
from falcon_wsgi.models.signature import (
    LARGEST_INTEGER,
    LARGEST_NUMBER,
    BooleanField,
    CategoryField,
    NumberField,
    StringField,
    TabularField,
    TabularSignature,
    TextSignature,
)

FIELDS: dict[str, TabularField] = {
    "number": NumberField(name="f", type="number"),
    "bounded": NumberField(name="f", type="number", minimum=-1, maximum=1.5),
    "integer": NumberField(name="f", type="integer"),
    "count": NumberField(name="f", type="integer", minimum=0, maximum=9),
    "boolean": BooleanField(name="f", type="boolean"),
    "category": CategoryField(name="f", type="category", categories=("a", "b")),
    "level": CategoryField(name="f", type="category", categories=(1, 2)),
    "flag": CategoryField(name="f", type="category", categories=(True, False)),
    "string": StringField(name="f", type="string", max_length=5),
    "nullable": NumberField(name="f", type="number", nullable=True),
}


def form(field: TabularField) -> TabularForm:
    return TabularForm(TabularSignature(fields=(field,)))


def refusal(field: TabularField, row: Any) -> dict[str, str]:
    with pytest.raises(ValidationError) as refused:
        form(field).validate(row)
    return issues_of(refused.value.errors(include_url=False))[0]


@pytest.mark.parametrize(
    ("field", "sent", "seen"),
    [
        ("number", 5, 5.0),
        ("number", LARGEST_NUMBER, LARGEST_NUMBER),
        ("bounded", -1, -1.0),
        ("bounded", 1.5, 1.5),
        ("integer", 5.0, 5),
        ("integer", -LARGEST_INTEGER, -LARGEST_INTEGER),
        ("count", 9, 9),
        ("boolean", False, False),
        ("category", "b", "b"),
        ("level", 2, 2),
        ("level", 2.0, 2),
        ("flag", True, True),
        ("string", "ä b\n", "ä b\n"),
        ("nullable", None, None),
    ],
)
def test_value_that_fits_is_seen_with_its_type(field: str, sent: Any, seen: Any) -> None:
    (value,) = form(FIELDS[field]).validate({"f": sent})
    assert (value, type(value)) == (seen, type(seen))


@pytest.mark.parametrize(
    ("field", "sent", "kind"),
    [
        ("number", "5", "float_type"),
        ("number", True, "float_type"),
        ("number", None, "float_type"),
        ("number", 1e39, "less_than_equal"),
        ("number", -1e39, "greater_than_equal"),
        ("bounded", 1.6, "less_than_equal"),
        ("integer", 1.5, "int_from_float"),
        ("integer", 2**53, "less_than_equal"),
        ("integer", 1e300, "less_than_equal"),
        ("count", -1, "greater_than_equal"),
        ("boolean", 1, "bool_type"),
        ("boolean", "true", "bool_type"),
        ("category", "c", "literal_error"),
        ("category", 1, "literal_error"),
        ("category", None, "literal_error"),
        ("category", ["a"], "literal_error"),
        ("level", True, "literal_error"),
        ("level", 1.5, "literal_error"),
        ("flag", 1, "literal_error"),
        ("string", "123456", "string_too_long"),
        ("string", "\x00", "string_nul"),
        ("string", 1, "string_type"),
        ("nullable", "x", "float_type"),
    ],
)
def test_value_that_does_not_fit_is_refused_with_a_pointer(field: str, sent: Any, kind: str) -> None:
    issue = refusal(FIELDS[field], {"f": sent})
    assert (issue["pointer"], issue["type"]) == ("/f", kind)


def test_only_a_nullable_field_may_be_left_out() -> None:
    assert form(FIELDS["nullable"]).validate({}) == (None,)
    assert refusal(FIELDS["number"], {})["type"] == "missing"


def test_unknown_field_is_refused() -> None:
    assert refusal(FIELDS["number"], {"f": 1, "g/h": 1})["pointer"] == "/g~1h"


def test_many_categories_are_not_all_listed_to_the_client() -> None:
    field = CategoryField(name="f", type="category", categories=tuple(map(str, range(50_000))))
    message = refusal(field, {"f": "x"})["message"]
    assert message.startswith("Input should be '0', '1', ")
    assert message.endswith("or one of 49980 others")


@given(st.text())
def test_normal_form_of_a_text_is_its_own(text: str) -> None:
    shape = TextForm(TextSignature())
    once = shape.normalise(text)
    assert shape.normalise(once) == once


row = st.tuples(
    st.one_of(st.none(), st.floats(allow_nan=False, allow_infinity=False)),
    st.one_of(st.integers(-LARGEST_INTEGER, LARGEST_INTEGER), st.booleans()),
    st.text(),
)


@given(row, row)
def test_different_rows_have_different_canonical_bytes(a: tuple[Any, ...], b: tuple[Any, ...]) -> None:
    names = (NumberField(name="a", type="number"), NumberField(name="b", type="number"))
    shape = form_of(TabularSignature(fields=(*names, StringField(name="c", type="string"))))
    alike = [(type(v), repr(v)) for v in a] == [(type(v), repr(v)) for v in b]
    assert (shape.canonical(a) == shape.canonical(b)) is alike


def test_payload_names_the_values() -> None:
    assert form(FIELDS["number"]).payload((1.0,)) == {"f": 1.0}
    assert TextForm(TextSignature()).payload("x") == {"text": "x"}
