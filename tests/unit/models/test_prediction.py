from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from falcon_wsgi.models.prediction import Prediction, decode, encode

finite = st.floats(allow_nan=False, allow_infinity=False)
predictions = st.builds(
    Prediction,
    output=st.one_of(st.text(st.characters(codec="utf-8")), st.integers(-(2**63), 2**63 - 1), finite),
    confidence=st.none() | st.floats(0, 1),
    probabilities=st.none() | st.dictionaries(st.text(st.characters(codec="utf-8")), st.floats(0, 1)),
)


@given(predictions)
def test_a_prediction_comes_back_exactly_as_it_went(prediction: Prediction) -> None:
    assert decode(encode(prediction)) == prediction
    assert type(decode(encode(prediction)).output) is type(prediction.output)


@pytest.mark.parametrize(
    "damaged",
    [
        b"",
        b"\xff",
        b"nonsense",
        b"null",
        b"{}",
        b'"positive"',
        b"[]",
        b'["positive"]',
        b'["positive",0.9]',
        b'["positive",0.9,{},1]',
        b"[null,0.9,null]",
        b"[[],0.9,null]",
        b'["positive","0.9",null]',
        b'["positive",false,null]',
        b'["positive",0.9,[0.9]]',
        b'["positive",0.9,{"positive":"0.9"}]',
        b'["positive",0.9,{"positive":null}]',
        encode(Prediction("positive", 0.9))[:-1],
    ],
)
def test_anything_else_is_a_value_error(damaged: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the type is the contract, the text is not
        decode(damaged)


@given(st.binary())
def test_no_bytes_make_decoding_fail_otherwise(value: bytes) -> None:
    try:
        assert isinstance(decode(value), Prediction)
    except ValueError:
        pass
