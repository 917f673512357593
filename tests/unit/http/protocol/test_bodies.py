"""Declared types and content codings of a protocol request."""

from __future__ import annotations

import gzip
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from falcon_wsgi.errors import MalformedRequest, PayloadTooLarge, RequestError, UnsupportedMediaType
from falcon_wsgi.http.body import MAX_BODY_BYTES
from falcon_wsgi.http.protocol.bodies import inflate, read
from tests.unit.http.protocol.models import environ

CODERS = {"gzip": gzip.compress, "deflate": zlib.compress}


@pytest.mark.parametrize(
    "declared", ["", "application/json", "application/octet-stream", "application/json; charset=utf-8"]
)
def test_json_and_binary_data_may_be_declared_or_not(declared: str) -> None:
    assert read(environ(b"{}", CONTENT_TYPE=declared)) == b"{}"


@pytest.mark.parametrize(
    "declared", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"]
)
def test_what_a_browser_sends_to_other_sites_unasked_is_refused(declared: str) -> None:
    with pytest.raises(UnsupportedMediaType):
        read(environ(b"{}", CONTENT_TYPE=declared))


@pytest.mark.parametrize("coding", ["gzip", "deflate", "GZIP", "x-gzip", "identity"])
def test_codings_are_undone(coding: str) -> None:
    code = CODERS.get(coding.lower().removeprefix("x-"), bytes)
    assert read(environ(code(b"{} "), HTTP_CONTENT_ENCODING=coding)) == b"{} "


@pytest.mark.parametrize("coding", ["br", "zstd", "gzip, gzip", "compress", ""])
def test_other_codings_are_named(coding: str) -> None:
    with pytest.raises(UnsupportedMediaType, match="gzip or deflate"):
        read(environ(b"{}", HTTP_CONTENT_ENCODING=coding))


@pytest.mark.parametrize("coding", CODERS)
def test_the_bound_holds_for_what_comes_out(coding: str) -> None:
    code = CODERS[coding]
    assert len(inflate(code(bytes(MAX_BODY_BYTES)), coding)) == MAX_BODY_BYTES
    with pytest.raises(PayloadTooLarge, match="inflated"):
        inflate(code(bytes(MAX_BODY_BYTES + 1)), coding)


@pytest.mark.parametrize("coding", CODERS)
def test_data_that_breaks_off_or_goes_on_is_refused(coding: str) -> None:
    whole = CODERS[coding](b"some text to be sent")
    for broken in (whole[:-1], whole[:5], b"", whole + b"x"):
        with pytest.raises(MalformedRequest):
            inflate(broken, coding)


@given(st.sampled_from(sorted(CODERS)), st.binary(max_size=200), st.integers(0, 250), st.binary(max_size=3))
def test_damaged_data_gives_nothing_but_a_refusal(coding: str, text: bytes, at: int, change: bytes) -> None:
    whole = CODERS[coding](text)
    try:
        found = inflate(whole[:at] + change + whole[at + len(change) :], coding)
    except RequestError:
        return
    assert len(found) <= MAX_BODY_BYTES
