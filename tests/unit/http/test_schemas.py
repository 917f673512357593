"""What the two bodies accept, and how a violation is named."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from falcon_wsgi.errors import MalformedRequest, RequestError, ValidationFailed
from falcon_wsgi.http.schemas import InferBatchBody, InferBody, parse


@pytest.mark.parametrize("text", ["a", "x" * 10_000, "\U0001f600" * 10_000, "a\x00b", " padded ", "日本語"])
def test_texts_within_the_limits_are_taken_as_they_are(text: str) -> None:
    assert parse(InferBody, orjson.dumps({"text": text})).inputs() == (text,)


@pytest.mark.parametrize(
    ("body", "pointer", "kind"),
    [
        ({}, "/text", "missing"),
        ({"text": ""}, "/text", "string_too_short"),
        ({"text": " \t\n\u2003"}, "/text", "blank"),
        ({"text": "x" * 10_001}, "/text", "string_too_long"),
        ({"text": 5}, "/text", "string_type"),
        ({"text": None}, "/text", "string_type"),
        ({"text": ["a"]}, "/text", "string_type"),
        ([], "", "model_type"),
        ("text", "", "model_type"),
    ],
)
def test_a_violation_is_named_by_pointer_and_type(body: object, pointer: str, kind: str) -> None:
    with pytest.raises(ValidationFailed) as caught:
        parse(InferBody, orjson.dumps(body))
    issue = caught.value.issues[0]
    assert (issue["pointer"], issue["type"]) == (pointer, kind)
    assert issue["message"]


def test_each_text_of_a_batch_is_checked() -> None:
    with pytest.raises(ValidationFailed) as caught:
        parse(InferBatchBody, orjson.dumps({"texts": ["fine", "", "fine", 7]}))
    assert [issue["pointer"] for issue in caught.value.issues] == ["/texts/1", "/texts/3"]


@pytest.mark.parametrize("texts", [[], ["a"] * 51])
def test_a_batch_holds_1_to_50_texts(texts: list[str]) -> None:
    with pytest.raises(ValidationFailed):
        parse(InferBatchBody, orjson.dumps({"texts": texts}))
    assert len(parse(InferBatchBody, orjson.dumps({"texts": ["a"] * 50})).inputs()) == 50


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"nonsense",
        b'{"text": NaN',
        b'{"text": "a"} trailing',
        b'{"text": "\xff\xfe"}',
        b'{"text": "\\ud800"}',
        b"[" * 100_000,
        b'{"text": "a\nb"}',
        b"\xef\xbb\xbf" + b'{"text": "a"}',
    ],
    ids=lambda raw: repr(raw[:20]),
)
def test_what_is_not_json_is_malformed(raw: bytes) -> None:
    with pytest.raises(MalformedRequest):
        parse(InferBody, raw)


def test_a_message_never_repeats_the_input() -> None:
    with pytest.raises(ValidationFailed) as caught:
        parse(InferBody, orjson.dumps({"text": ["hunter2"]}))
    assert "hunter2" not in str(caught.value) + str(caught.value.issues)


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_any_bytes_are_a_body_or_a_request_error(raw: bytes) -> None:
    try:
        parse(InferBody, raw)
    except RequestError:
        pass
