"""The framing of bodies with binary data."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from falcon_wsgi.errors import MalformedRequest, RequestError, ValidationFailed
from falcon_wsgi.http.protocol.binary import Attachment, end_of_json, split, split_texts

json_objects = st.dictionaries(
    st.text(max_size=8), st.text(max_size=8) | st.lists(st.integers(-99, 99)), max_size=4
)


@given(json_objects, st.lists(st.binary(max_size=16), max_size=4))
def test_a_body_splits_into_what_it_was_made_of(head: dict[str, object], parts: list[bytes]) -> None:
    text = orjson.dumps(head)
    body = b"".join((text, *parts))
    found, attachment = split(body, str(len(text)))
    assert found == text
    assert [attachment.take(len(part), "") for part in parts] == parts
    attachment.require_end()
    assert end_of_json(body) == len(text)


def test_without_a_header_the_whole_body_is_json() -> None:
    text, attachment = split(b"{}", None)
    assert text == b"{}"
    attachment.require_end()


@pytest.mark.parametrize("declared", ["", "x", "-1", "+1", "1.0", " 1", "3", "9" * 11, "1,1", "\u0661"])
def test_a_header_that_is_no_length_of_a_part_is_refused(declared: str) -> None:
    with pytest.raises(MalformedRequest, match="Inference-Header-Content-Length"):
        split(b"{}", declared)


@pytest.mark.parametrize("size", [4, -1, 1.0, True, "1", None, 2**70])
def test_a_size_that_is_not_there_is_refused_with_its_place(size: object) -> None:
    with pytest.raises(ValidationFailed) as refused:
        Attachment(b"abc").take(size, "/inputs/0/parameters/binary_data_size")
    assert refused.value.issues[0]["pointer"] == "/inputs/0/parameters/binary_data_size"


def test_bytes_of_no_tensor_are_refused() -> None:
    attachment = Attachment(b"abc")
    attachment.take(1, "")
    with pytest.raises(MalformedRequest, match="2 bytes"):
        attachment.require_end()


@given(st.binary(max_size=64))
def test_texts_split_or_are_refused(raw: bytes) -> None:
    try:
        found = split_texts(raw, "")
    except RequestError:
        return
    assert b"".join(len(one).to_bytes(4, "little") + one for one in found) == raw
