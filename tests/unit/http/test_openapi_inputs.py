"""The JSON Schema of a signature lets through what its form lets through, and nothing else."""

from __future__ import annotations

import json
import math
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from falcon_wsgi.errors import FalconError
from falcon_wsgi.http.openapi.inputs import MAX_LISTED_CATEGORIES, row_schema
from falcon_wsgi.http.schemas import NOT_BLANK, InferBatchBody, InferBody, parse
from falcon_wsgi.models.forms import TabularForm, not_blank
from falcon_wsgi.models.signature import (
    LARGEST_INTEGER,
    LARGEST_NUMBER,
    BooleanField,
    CategoryField,
    NumberField,
    StringField,
    TabularField,
    TabularSignature,
)

FIELDS: list[TabularField] = [
    NumberField(name="x", type="number"),
    NumberField(name="x", type="number", minimum=-1.5, maximum=2, nullable=True),
    NumberField(name="x", type="integer"),
    NumberField(name="x", type="integer", minimum=0, maximum=10),
    NumberField(name="x", type="integer", minimum=0, nullable=True),
    BooleanField(name="x", type="boolean"),
    BooleanField(name="x", type="boolean", nullable=True),
    CategoryField(name="x", type="category", categories=("a", "b", ""), nullable=True),
    CategoryField(name="x", type="category", categories=(0, 1, 2)),
    CategoryField(name="x", type="category", categories=(True, "1")),
    StringField(name="x", type="string", max_length=3),
    StringField(name="x", type="string", nullable=True),
]
LIMITS = (-1.5, 0, 2, 10, LARGEST_NUMBER, LARGEST_INTEGER)
NUMBERS = [
    number
    for limit in LIMITS
    for sign in (1, -1)
    for number in (
        sign * limit,
        math.nextafter(sign * limit, math.inf),
        math.nextafter(sign * limit, -math.inf),
    )
    if math.isfinite(number)
]
OTHERS = [
    0,
    1,
    2,
    3,
    5.0,
    5.5,
    True,
    False,
    None,
    "",
    "a",
    "b",
    "1",
    "abc",
    "abcd",
    "\x00",
    "é" * 3,
    [],
    [1],
    {},
]
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("xy"), inner, max_size=2),
    max_leaves=3,
)


def form_accepts(form: TabularForm, row: Any) -> bool:
    try:
        form.validate(row)
    except ValidationError:
        return False
    return True


def assert_agree(field: TabularField, row: Any) -> None:
    signature = TabularSignature(fields=(field,))
    schema = jsonschema_rs.validator_for(row_schema(signature))
    assert schema.is_valid(row) is form_accepts(TabularForm(signature), row), row


@pytest.mark.parametrize("field", FIELDS, ids=repr)
def test_a_row_fits_the_schema_just_where_the_service_takes_it(field: TabularField) -> None:
    for value in (*NUMBERS, *OTHERS):
        assert_agree(field, {"x": value})
    for row in ({}, {"x": 1, "y": 1}, {"y": None}):
        assert_agree(field, row)


@pytest.mark.parametrize("field", FIELDS, ids=repr)
@given(value=ANYTHING)
def test_schema_and_service_agree_on_any_value(field: TabularField, value: Any) -> None:
    assert_agree(field, {"x": value})


def test_a_long_list_of_categories_is_not_written_out() -> None:
    categories = tuple(range(MAX_LISTED_CATEGORIES + 1))
    field = CategoryField(name="x", type="category", categories=categories)
    schema = row_schema(TabularSignature(fields=(field,)))["properties"]["x"]
    assert "enum" not in schema
    assert len(json.dumps(schema)) < 200
    listed = CategoryField(name="x", type="category", categories=categories[:-1])
    shown = row_schema(TabularSignature(fields=(listed,)))["properties"]["x"]
    assert shown == {"enum": list(categories[:-1])}


def test_a_description_is_shown() -> None:
    field = NumberField(name="x", type="number", description="Square metres.")
    assert row_schema(TabularSignature(fields=(field,)))["properties"]["x"]["description"] == "Square metres."


def test_blank_means_the_same_to_the_schema_and_the_service() -> None:
    schema = jsonschema_rs.validator_for({"type": "string", "pattern": NOT_BLANK})
    surrogates = range(0xD800, 0xE000)
    for code in range(0x30000):
        if code in surrogates:
            continue
        character = chr(code)
        try:
            not_blank(character)
            accepted = True
        except ValueError:
            accepted = False
        assert schema.is_valid(character) is accepted, hex(code)


@pytest.mark.parametrize("body", [InferBody, InferBatchBody])
@given(text=st.one_of(st.text(max_size=5), st.text(alphabet=" \t\n\x1c\x85\u2003\ufeffa")))
def test_schema_and_service_agree_on_any_text(
    body: type[InferBody] | type[InferBatchBody], text: str
) -> None:
    sent = {"text": text} if body is InferBody else {"texts": [text, "a"]}
    try:
        parse(body, json.dumps(sent).encode())
        accepted = True
    except FalconError:
        accepted = False
    assert jsonschema_rs.validator_for(body.model_json_schema()).is_valid(sent) is accepted
