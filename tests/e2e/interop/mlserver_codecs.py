"""MLServer's codecs against an instance with the project's models, and loan, sum and sign.

Run as `python mlserver_codecs.py PORT`, in the environment of requirements-interop.lock.
"""

from __future__ import annotations

import sys
import urllib.error
import urllib.request
from typing import Any

import numpy as np
import pandas as pd
from checks import Native, report
from mlserver.codecs import (
    Base64Codec,
    NumpyCodec,
    NumpyRequestCodec,
    PandasCodec,
    StringCodec,
    StringRequestCodec,
)
from mlserver.types import (
    InferenceErrorResponse,
    InferenceRequest,
    InferenceResponse,
    MetadataModelResponse,
    MetadataServerResponse,
    RequestOutput,
)

TEXTS = ["The food was great", "not good at all", "naïve café — 日本語", "It arrived on Tuesday"]
IRIS = np.array([[5.1, 3.5, 1.4, 0.2], [6.0, 2.9, 4.5, 1.5], [6.9, 3.1, 5.4, 2.1]])
IRIS_FIELDS = ["sepal_length", "sepal_width", "petal_length", "petal_width"]
LABELS = ("negative", "neutral", "positive")


def infer(
    native: Native, model: str, request: InferenceRequest, *outputs: str, sparse: bool = True
) -> InferenceResponse:
    """Send what the codec made, with or without its null members, and read the answer with MLServer's types."""
    if outputs:
        request = request.model_copy(update={"outputs": [RequestOutput(name=name) for name in outputs]})
    body = request.model_dump_json(exclude_none=sparse).encode()
    url = f"{native.url}/v2/models/{model}/infer"
    message = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(message, timeout=30) as answer:
        return InferenceResponse.model_validate_json(answer.read())


def output(response: InferenceResponse, name: str) -> Any:
    return next(output for output in response.outputs if output.name == name)


def loans() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "amount": [5000.0, 90000.0, 7000.0],
            "months": [24, 3, 480],
            "insured": [True, False, True],
            "purpose": pd.Series(["car", "boat", "house"], dtype=object),
            "income": [2500.0, np.nan, 800.0],
        }
    )


def expected_loans(native: Native, frame: pd.DataFrame) -> list[Any]:
    rows = [
        {name: None if pd.isna(value) else value for name, value in row.items()}
        for row in frame.to_dict(orient="records")
    ]
    return [native.predict("loan", **row) for row in rows]


def check_metadata_is_of_mlservers_types(native: Native) -> None:
    for path, kind in (("/v2", MetadataServerResponse), ("/v2/models/loan", MetadataModelResponse)):
        with urllib.request.urlopen(native.url + path, timeout=30) as answer:
            kind.model_validate_json(answer.read())


def check_numpy_request_codec_gives_an_array_for_an_array(native: Native) -> None:
    for sparse in (True, False):
        request = NumpyRequestCodec.encode_request(IRIS)
        labels = NumpyRequestCodec.decode_response(infer(native, "iris", request, "predict", sparse=sparse))
        assert isinstance(labels, np.ndarray)
        assert labels.tolist() == [[0], [1], [2]]
        chances = NumpyRequestCodec.decode_response(infer(native, "iris", request, "predict_proba"))
        expected = [
            native.predict("iris", **dict(zip(IRIS_FIELDS, row, strict=True))) for row in IRIS.tolist()
        ]
        assert chances.tolist() == [list(row["prediction_probabilities"].values()) for row in expected]


def check_numpy_codec_for_each_dtype(native: Native) -> None:
    for dtype in ("uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64"):
        _sums(native, np.array([3, 100], dtype))
    for dtype in ("float16", "float32", "float64"):
        _sums(native, np.array([3.5, 100.25], dtype))


def _sums(native: Native, column: Any) -> None:
    request = InferenceRequest(inputs=[NumpyCodec.encode_input(name, column) for name in ("a", "b")])
    found = NumpyCodec.decode_output(output(infer(native, "sum", request), "predict"))
    assert np.allclose(found.flatten(), column.astype(np.float64) * 2), (column.dtype, found)


def check_numpy_codec_writes_missing_numbers_as_null(native: Native) -> None:
    frame = loans()
    inputs = [
        NumpyCodec.encode_input(name, frame[name].to_numpy())
        for name in ("amount", "months", "insured", "income")
    ]
    inputs.append(StringCodec.encode_input("purpose", frame["purpose"].tolist()))
    response = infer(native, "loan", InferenceRequest(inputs=inputs))
    assert StringCodec.decode_output(output(response, "predict")) == [
        row["prediction"] for row in expected_loans(native, frame)
    ]


def check_numpy_codec_takes_arrays_of_strings(native: Native) -> None:
    request = NumpyRequestCodec.encode_request(np.array(TEXTS))
    answers = StringCodec.decode_output(output(infer(native, "sentiment", request), "predict"))
    assert answers == [native.infer(text)["prediction"] for text in TEXTS]


def check_string_codec(native: Native) -> None:
    for use_bytes in (True, False):
        request = InferenceRequest(inputs=[StringCodec.encode_input("text", TEXTS, use_bytes=use_bytes)])
        response = infer(native, "sentiment", request)
        expected = [native.infer(text) for text in TEXTS]
        assert StringCodec.decode_output(output(response, "predict")) == [
            row["prediction"] for row in expected
        ]
        chances = NumpyCodec.decode_output(output(response, "predict_proba"))
        assert chances.tolist() == [[row["probabilities"][label] for label in LABELS] for row in expected]


def check_string_request_codec_gives_strings_for_strings(native: Native) -> None:
    request = StringRequestCodec.encode_request(TEXTS)
    answers = StringRequestCodec.decode_response(infer(native, "sentiment", request, "predict"))
    assert answers == [native.infer(text)["prediction"] for text in TEXTS]


def check_base64_codec(native: Native) -> None:
    for use_bytes in (True, False):
        encoded = Base64Codec.encode_input("text", [text.encode() for text in TEXTS], use_bytes=use_bytes)
        response = infer(native, "sentiment", InferenceRequest(inputs=[encoded]))
        assert StringCodec.decode_output(output(response, "predict")) == [
            native.infer(text)["prediction"] for text in TEXTS
        ]


def check_pandas_codec_gives_a_frame_for_a_frame(native: Native) -> None:
    frame = loans()
    for use_bytes in (True, False):
        request = PandasCodec.encode_request(frame, use_bytes=use_bytes)
        answer = PandasCodec.decode_response(infer(native, "loan", request, "predict"))
        assert isinstance(answer, pd.DataFrame)
        assert answer["predict"].tolist() == [row["prediction"] for row in expected_loans(native, frame)]


def check_pandas_codec_for_columns_of_any_object(native: Native) -> None:
    frame = loans().astype({"insured": object, "income": object})
    frame["months"] = pd.Series([24, 3, 480], dtype=object)
    request = PandasCodec.encode_request(frame.drop(columns=["income"]))
    assert request.inputs[1].parameters.content_type == "pd_json"
    answer = PandasCodec.decode_response(infer(native, "loan", request, "predict"))
    expected = expected_loans(native, frame.drop(columns=["income"]))
    assert answer["predict"].tolist() == [row["prediction"] for row in expected]


def check_an_error_is_of_mlservers_type(native: Native) -> None:
    request = StringRequestCodec.encode_request([" "])
    refusal = None
    try:
        infer(native, "sentiment", request)
    except urllib.error.HTTPError as error:
        refusal = error
    assert refusal is not None
    assert refusal.code == 422
    assert "blank" in (InferenceErrorResponse.model_validate_json(refusal.read()).error or "")


if __name__ == "__main__":
    report(globals(), Native(int(sys.argv[1])))
