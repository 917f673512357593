"""Triton's own HTTP client against an instance with the project's models, and loan, sum and sign.

Run as `python triton_client.py PORT`, in the environment of requirements-interop.lock.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from checks import Native, report
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput, InferResult
from tritonclient.utils import InferenceServerException

TEXTS = ["The food was great", "not good at all", "naïve café — 日本語 \U0001f600", "It arrived on Tuesday"]
IRIS = [[5.1, 3.5, 1.4, 0.2], [6.0, 2.9, 4.5, 1.5], [6.9, 3.1, 5.4, 2.1]]
IRIS_FIELDS = ("sepal_length", "sepal_width", "petal_length", "petal_width")

Client = InferenceServerClient


def given(name: str, data: Any, datatype: str, binary: bool = True) -> InferInput:
    array = np.asarray(data)
    return InferInput(name, array.shape, datatype).set_data_from_numpy(array, binary_data=binary)


def texts(values: list[str], binary: bool = True) -> InferInput:
    encoded = np.array([[value.encode()] for value in values], dtype=object)
    return given("text", encoded, "BYTES", binary)


def iris(client: Client, array: Any, datatype: str, **options: Any) -> InferResult:
    return client.infer("iris", [given("input", array, datatype)], **options)


def wanted(*names: str, binary: bool = True) -> list[InferRequestedOutput]:
    return [InferRequestedOutput(name, binary_data=binary) for name in names]


def refused(message: str, call: Any) -> InferenceServerException:
    refusal = None
    try:
        call()
    except InferenceServerException as error:
        refusal = error
    assert refusal is not None, "the call was answered"
    assert message in refusal.message(), refusal.message()
    return refusal


def decoded(array: Any) -> list[str]:
    return [element.decode() if isinstance(element, bytes) else element for element in array.flatten()]


def check_liveness_and_readiness(client: Client, native: Native) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("iris")
    assert client.is_model_ready("iris", "1.0.0")
    assert not client.is_model_ready("iris", "9.9.9")
    assert not client.is_model_ready("unknown")


def check_server_metadata(client: Client, native: Native) -> None:
    metadata = client.get_server_metadata()
    assert metadata["name"] == "falcon"
    assert "binary_tensor_data" in metadata["extensions"]


def check_model_metadata_describes_what_infer_takes_and_gives(client: Client, native: Native) -> None:
    rows = {
        "amount": [[5000.0], [90000.0]],
        "months": [[24], [3]],
        "insured": [[True], [False]],
        "purpose": [["car"], ["boat"]],
        "income": [[2500.0], [400.0]],
    }
    metadata = client.get_model_metadata("loan", "1.0.0")
    assert metadata["versions"] == ["1.0.0"]
    types = {"FP64": np.float64, "INT64": np.int64, "BOOL": np.bool_, "BYTES": object}
    inputs = [
        given(tensor["name"], np.array(rows[tensor["name"]], types[tensor["datatype"]]), tensor["datatype"])
        for tensor in metadata["inputs"]
    ]
    result = client.infer("loan", inputs)
    for tensor in metadata["outputs"]:
        found = result.as_numpy(tensor["name"])
        assert list(found.shape) == [2, tensor["shape"][1]]
        assert result.get_output(tensor["name"])["datatype"] == tensor["datatype"]


def check_repository_index(client: Client, native: Native) -> None:
    index = client.get_model_repository_index()
    assert {(entry["name"], entry["state"]) for entry in index} >= {("iris", "READY"), ("sentiment", "READY")}


def check_load_without_a_key_is_refused(client: Client, native: Native) -> None:
    assert refused("API key", lambda: client.load_model("iris")).status() == "403"
    assert refused("API key", lambda: client.unload_model("iris")).status() == "403"


def check_texts_as_binary_data_answer_as_infer_does(client: Client, native: Native) -> None:
    result = client.infer("sentiment", [texts(TEXTS)])
    expected = [native.infer(text) for text in TEXTS]
    assert decoded(result.as_numpy("predict")) == [answer["prediction"] for answer in expected]
    labels = ("negative", "neutral", "positive")
    probabilities = [[answer["probabilities"][label] for label in labels] for answer in expected]
    assert result.as_numpy("predict_proba").tolist() == probabilities


def check_texts_as_json_answer_as_binary_data_does(client: Client, native: Native) -> None:
    outputs = wanted("predict", "predict_proba", binary=False)
    one = client.infer("sentiment", [texts(TEXTS, binary=False)], outputs=outputs)
    other = client.infer("sentiment", [texts(TEXTS)])
    assert decoded(one.as_numpy("predict")) == decoded(other.as_numpy("predict"))
    assert one.as_numpy("predict_proba").tolist() == other.as_numpy("predict_proba").tolist()


def check_rows_answer_as_predict_does(client: Client, native: Native) -> None:
    result = iris(client, np.array(IRIS, np.float64), "FP64")
    expected = [native.predict("iris", **dict(zip(IRIS_FIELDS, row, strict=True))) for row in IRIS]
    assert result.as_numpy("predict").flatten().tolist() == [answer["prediction"] for answer in expected]
    assert result.as_numpy("predict_proba").tolist() == [
        list(answer["prediction_probabilities"].values()) for answer in expected
    ]


def check_a_tensor_for_each_field_answers_as_one_for_all(client: Client, native: Native) -> None:
    whole = iris(client, np.array(IRIS, np.float64), "FP64").as_numpy("predict_proba")
    columns = np.array(IRIS, np.float64)
    inputs = [
        given(name, columns[:, i : i + 1].copy(), "FP64", binary=i % 2 == 0)
        for i, name in enumerate(IRIS_FIELDS)
    ]
    apart = client.infer("iris", list(reversed(inputs))).as_numpy("predict_proba")
    assert apart.tolist() == whole.tolist()


def check_fp32_is_the_nearest_number_in_both_forms(client: Client, native: Native) -> None:
    rows = np.array(IRIS, np.float32)
    widened = iris(client, rows.astype(np.float64), "FP64").as_numpy("predict_proba").tolist()
    assert iris(client, rows, "FP32").as_numpy("predict_proba").tolist() == widened
    as_json = client.infer("iris", [given("input", rows, "FP32", binary=False)])
    assert as_json.as_numpy("predict_proba").tolist() == widened


def check_thirty_six_features_in_one_tensor(client: Client, native: Native) -> None:
    row = [55, 2, 6750, 33, 32, 22, 2, 0, 14, 66, *([0] * 26)]
    for feature in (28, 31, 34):
        row[feature - 1] = 1
    expected = native.predict("performance", **{f"feat{i + 1}": value for i, value in enumerate(row)})
    result = client.infer("performance", [given("input", np.array([row] * 3, np.float32), "FP32")])
    assert result.as_numpy("predict").tolist() == [[expected["prediction"]]] * 3
    assert (
        result.as_numpy("predict_proba").tolist() == [list(expected["prediction_probabilities"].values())] * 3
    )


def check_every_numeric_datatype(client: Client, native: Native) -> None:
    for datatype, kind in (
        ("UINT8", np.uint8),
        ("UINT16", np.uint16),
        ("UINT32", np.uint32),
        ("UINT64", np.uint64),
        ("INT8", np.int8),
        ("INT16", np.int16),
        ("INT32", np.int32),
        ("INT64", np.int64),
        ("FP16", np.float16),
        ("FP32", np.float32),
        ("FP64", np.float64),
    ):
        for binary in (True, False):
            inputs = [given(name, np.array([3, 100], kind), datatype, binary) for name in ("a", "b")]
            found = client.infer("sum", inputs).as_numpy("predict")
            assert np.allclose(found, [[6], [200]]), (datatype, binary, found)
            assert found.dtype == np.float64


def check_booleans_texts_and_missing_values(client: Client, native: Native) -> None:
    income = np.array([[2500.0], [np.nan]], np.float64)
    for binary in (True, False):
        inputs = [
            given("amount", np.array([[5000], [5000]], np.uint32), "UINT32", binary),
            given("months", np.array([[24], [24]], np.int16), "INT16", binary),
            given("insured", np.array([[True], [False]]), "BOOL", binary),
            given("purpose", np.array([[b"car"], [b"house"]], object), "BYTES", binary),
            given("income", income, "FP64"),
        ]
        result = client.infer("loan", inputs)
        expected = [
            native.predict("loan", amount=5000, months=24, insured=True, purpose="car", income=2500),
            native.predict("loan", amount=5000, months=24, insured=False, purpose="house"),
        ]
        assert decoded(result.as_numpy("predict")) == [answer["prediction"] for answer in expected]
        assert result.as_numpy("predict_proba").tolist() == [
            list(answer["prediction_probabilities"].values()) for answer in expected
        ]


def check_boolean_labels_and_no_probabilities(client: Client, native: Native) -> None:
    result = client.infer("sign", [given("x", np.array([5.0, -5.0]), "FP64")])
    assert result.as_numpy("predict").tolist() == [[True], [False]]
    assert [output["name"] for output in result.get_response()["outputs"]] == ["predict"]


def check_only_the_requested_outputs_come_in_their_order_and_form(client: Client, native: Native) -> None:
    outputs = [InferRequestedOutput("predict_proba", binary_data=False), InferRequestedOutput("predict")]
    result = iris(client, np.array(IRIS, np.float64), "FP64", outputs=outputs)
    found = result.get_response()["outputs"]
    assert [output["name"] for output in found] == ["predict_proba", "predict"]
    assert "data" in found[0]
    assert found[1]["parameters"]["binary_data_size"] == 24
    assert result.as_numpy("predict").tolist() == [[0], [1], [2]]
    only = iris(client, np.array(IRIS, np.float64), "FP64", outputs=wanted("predict"))
    assert only.as_numpy("predict_proba") is None


def check_request_id_and_version(client: Client, native: Native) -> None:
    response = iris(
        client, np.array(IRIS, np.float64), "FP64", request_id="my-42", model_version="1.0.0"
    ).get_response()
    assert response["id"] == "my-42"
    assert (response["model_name"], response["model_version"]) == ("iris", "1.0.0")


def check_compressed_requests(client: Client, native: Native) -> None:
    plain = client.infer("sentiment", [texts(TEXTS)]).as_numpy("predict_proba").tolist()
    for coding in ("gzip", "deflate"):
        for binary in (True, False):
            result = client.infer(
                "sentiment",
                [texts(TEXTS, binary)],
                request_compression_algorithm=coding,
                response_compression_algorithm=coding,
            )
            assert result.as_numpy("predict_proba").tolist() == plain


def check_requests_at_the_same_time(client: Client, native: Native) -> None:
    pending = [client.async_infer("sentiment", [texts([text])], request_id=text[:8]) for text in TEXTS * 5]
    for text, request in zip(TEXTS * 5, pending, strict=True):
        result = request.get_result()
        assert result.get_response()["id"] == text[:8]
        assert decoded(result.as_numpy("predict")) == [native.infer(text)["prediction"]]


def check_a_thousand_rows(client: Client, native: Native) -> None:
    rows = np.random.default_rng(1).uniform(0, 50, (1000, 4))
    result = iris(client, rows, "FP64")
    assert result.as_numpy("predict").shape == (1000, 1)
    assert np.allclose(result.as_numpy("predict_proba").sum(axis=1), 1)


def check_a_prepared_body_can_be_sent_and_read_apart(client: Client, native: Native) -> None:
    body, length = Client.generate_request_body([texts(TEXTS)])
    headers = {"Inference-Header-Content-Length": str(length)}
    answer = client._post("v2/models/sentiment/infer", body, headers, None)
    result = Client.parse_response_body(
        answer.read(), header_length=int(answer.get("Inference-Header-Content-Length"))
    )
    assert result.as_numpy("predict").shape == (4, 1)


def check_refusals_reach_the_client(client: Client, native: Native) -> None:
    def call(model: str, *inputs: InferInput, **options: Any) -> Any:
        return lambda: client.infer(model, list(inputs), **options)

    good = given("input", np.array(IRIS, np.float64), "FP64")
    assert refused("no model 'unknown'", call("unknown", good)).status() == "404"
    assert refused("9.9.9", call("iris", good, model_version="9.9.9")).status() == "404"
    unknown_output = call("iris", good, outputs=wanted("probabilities"))
    assert refused("it has predict and predict_proba", unknown_output).status() == "422"
    narrow = given("input", np.array(IRIS, np.float64)[:, :3].copy(), "FP64")
    assert refused("[rows, 4]", call("iris", narrow)).status() == "422"
    assert refused("BYTES", call("sentiment", given("text", np.array([[1]]), "INT64"))).status() == "422"
    assert refused("'b' is missing", call("sum", given("a", np.array([1.0]), "FP64"))).status() == "422"
    gap = [given(name, np.array([np.nan]), "FP64") for name in ("a", "b")]
    assert refused("missing", call("sum", *gap)).status() == "422"
    classes = [InferRequestedOutput("predict", class_count=2)]
    assert refused("classification", call("iris", good, outputs=classes)).status() == "422"


if __name__ == "__main__":
    port = int(sys.argv[1])
    with InferenceServerClient(f"127.0.0.1:{port}", concurrency=4) as connected:
        report(globals(), connected, Native(port))
