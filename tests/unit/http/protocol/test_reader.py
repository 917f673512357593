"""From request documents to inputs: what fits, what does not, and where the refusal points."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from falcon_wsgi.errors import MalformedRequest, RequestError, UnknownModel, ValidationFailed
from falcon_wsgi.http.protocol.datatypes import DATATYPES, to_binary
from falcon_wsgi.http.protocol.refusals import MAX_ISSUES
from falcon_wsgi.http.protocol.schemas import MAX_ROWS
from tests.unit.http.protocol.models import mixed_row, reader, tensor


def inputs(model: str, *tensors: dict[str, Any]) -> Any:
    return reader(model, {"inputs": tensors}).read().inputs


def refusal(model: str, body: Any, length: int | None = None) -> ValidationFailed:
    with pytest.raises(ValidationFailed) as refused:
        reader(model, body, length).read()
    return refused.value


def pointers(error: ValidationFailed) -> list[str]:
    return [issue["pointer"] for issue in error.issues]


@pytest.mark.parametrize(
    ("shape", "data"), [([2], ["a", "b"]), ([2, 1], ["a", "b"]), ([2, 1], [["a"], ["b"]])]
)
def test_texts_are_one_tensor_flat_or_nested_of_any_name(shape: list[int], data: list[Any]) -> None:
    assert inputs("tone", tensor("text", shape, "BYTES", data)) == ["a", "b"]
    assert inputs("tone", tensor("input-1", shape, "BYTES", data)) == ["a", "b"]


@pytest.mark.parametrize(
    ("found", "pointer"),
    [
        (tensor("text", [1], "INT8", [1]), "/inputs/0/datatype"),
        (tensor("text", [1, 2], "BYTES", ["a", "b"]), "/inputs/0/shape"),
        (tensor("text", [2], "BYTES", ["a"]), "/inputs/0/data"),
        (tensor("text", [1], "BYTES", "a"), "/inputs/0/data"),
        (tensor("text", [1], "BYTES", None), "/inputs/0/data"),
        (tensor("text", [2], "BYTES", ["a", 1]), "/inputs/0/data/1"),
        (tensor("text", [2], "BYTES", ["a", " "]), "/inputs/0/data/1"),
        (tensor("text", [2, 1], "BYTES", [["a"], ["x" * 21]]), "/inputs/0/data/1/0"),
        (tensor("text", [2, 1], "BYTES", [["a"], "b"]), "/inputs/0/data"),
        (tensor("text", [2, 1], "BYTES", [["a"], ["b", "c"]]), "/inputs/0/data"),
        (tensor("text", [1], "BYTES", [None]), "/inputs/0/data/0"),
        (tensor("text", [0], "BYTES", []), "/inputs/0/shape/0"),
        (tensor("text", [MAX_ROWS + 1], "BYTES", []), "/inputs/0/shape/0"),
        (tensor("text", [1], "BYTES", ["ä"], content_type="base64"), "/inputs/0/data/0"),
        (tensor("text", [1], "BYTES", ["/w=="], content_type="base64"), "/inputs/0/data/0"),
        (tensor("text", [1], "BYTES", ["{}"], content_type="pd_json"), "/inputs/0/data/0"),
        (tensor("text", [1], "BYTES", ["{"], content_type="pd_json"), "/inputs/0/data/0"),
        (tensor("text", [1], "BYTES", ["a"], content_type="image"), "/inputs/0/parameters/content_type"),
        (tensor("text", [1], "BYTES", ["a"], content_type=["a"]), "/inputs/0/parameters/content_type"),
        (tensor("text", [1], "BYTES", ["a"], shared_memory_region="x"), None),
        (tensor("text", [1], "BYTES", ["a"], binary_data_size=5), "/inputs/0/data"),
        (tensor("text", [1], "STRING", ["a"]), "/inputs/0/datatype"),
        (tensor("text", [-1], "BYTES", ["a"]), "/inputs/0/shape/0"),
        (tensor("text", [1.5], "BYTES", ["a"]), "/inputs/0/shape/0"),
        (tensor("text", [], "BYTES", ["a"]), "/inputs/0/shape"),
        (tensor("text", [1] * 9, "BYTES", ["a"]), "/inputs/0/shape"),
        (tensor("", [1], "BYTES", ["a"]), "/inputs/0/name"),
    ],
)
def test_refusals_point_into_the_request(found: dict[str, Any], pointer: str | None) -> None:
    error = refusal("tone", {"inputs": [found]})
    assert pointers(error)[0] == (pointer or "/inputs/0/parameters/shared_memory_region")


def test_mlservers_encodings_of_strings_are_read() -> None:
    encoded = [base64.b64encode(text.encode()).decode() for text in ("é", "b")]
    assert inputs("tone", tensor("x", [2], "BYTES", encoded, content_type="base64")) == ["é", "b"]
    assert inputs("tone", tensor("x", [2], "BYTES", ['"é"', '"b"'], content_type="pd_json")) == ["é", "b"]
    for content_type in ("str", "np", "pd", None):
        assert inputs("tone", tensor("x", [1], "BYTES", ["a"], content_type=content_type)) == ["a"]


def test_a_row_is_a_tensor_for_each_field_in_any_order() -> None:
    body = mixed_row()
    assert reader("mix", body).read().inputs == [(1.5, 3, True, "red", 2, "x")]
    body["inputs"].reverse()
    assert reader("mix", body).read().inputs == [(1.5, 3, True, "red", 2, "x")]


def test_what_may_be_missing_is_left_out_null_or_nan() -> None:
    expected = [(None, 3, True, "red", 2, None)]
    null = {"size": tensor("size", [1], "FP32", [None]), "note": tensor("note", [1], "BYTES", [None])}
    assert reader("mix", mixed_row(**null)).read().inputs == expected
    assert reader("mix", mixed_row(size=None, note=None)).read().inputs == expected
    body = mixed_row(note=None)
    body["inputs"][0] = {
        "name": "size",
        "shape": [1],
        "datatype": "FP64",
        "parameters": {"binary_data_size": 8},
    }
    text = orjson.dumps(body)
    assert reader("mix", text + np.float64("nan").tobytes(), len(text)).read().inputs == expected


@pytest.mark.parametrize(
    ("field", "datatype", "element", "value"),
    [
        ("size", "UINT64", 7, 7.0),
        ("size", "FP32", 0.1, float(np.float32(0.1))),
        ("size", "FP16", 0.1, float(np.float16(0.1))),
        ("count", "FP64", 4.0, 4),
        ("count", "UINT8", 255, 255),
        ("new", "UINT8", 0, False),
        ("new", "FP32", 1.0, True),
        ("grade", "FP64", 1.0, 1),
        ("grade", "INT64", 2, 2),
    ],
)
def test_a_field_takes_any_datatype_that_has_its_values(
    field: str, datatype: str, element: Any, value: Any
) -> None:
    row = reader("mix", mixed_row(**{field: tensor(field, [1], datatype, [element])})).read().inputs[0]
    found = row[("size", "count", "new", "colour", "grade", "note").index(field)]
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("field", "datatype", "element", "pointer"),
    [
        ("size", "FP64", -1.0, "/inputs/0/data/0"),
        ("size", "BOOL", True, "/inputs/0/data/0"),
        ("size", "BYTES", "1", "/inputs/0/data/0"),
        ("count", "FP64", 4.5, "/inputs/1/data/0"),
        ("count", "INT8", None, "/inputs/1/data/0"),
        ("new", "INT8", 2, "/inputs/2/data/0"),
        ("colour", "BYTES", "green", "/inputs/3/data/0"),
        ("grade", "FP64", 1.5, "/inputs/4/data/0"),
        ("grade", "BOOL", True, "/inputs/4/data/0"),
        ("note", "BYTES", "\x00", "/inputs/5/data/0"),
        ("note", "INT8", 1, "/inputs/5/data/0"),
    ],
)
def test_bounds_categories_and_types_of_the_signature_hold(
    field: str, datatype: str, element: Any, pointer: str
) -> None:
    error = refusal("mix", mixed_row(**{field: tensor(field, [1], datatype, [element])}))
    assert pointers(error) == [pointer]


def test_missing_unknown_and_repeated_inputs_are_all_named() -> None:
    body = mixed_row(count=None, new=None)
    body["inputs"] += [tensor("size", [1], "FP64", [1]), tensor("weight", [1], "FP64", [1])]
    error = refusal("mix", body)
    assert pointers(error) == ["/inputs/4/name", "/inputs/5/name", "/inputs", "/inputs"]
    assert [issue["message"] for issue in error.issues[2:]] == [
        "the input 'count' is missing",
        "the input 'new' is missing",
    ]


def test_all_inputs_have_as_many_rows() -> None:
    error = refusal(
        "sum", {"inputs": [tensor("a", [2], "FP64", [1, 2]), tensor("b", [3, 1], "FP64", [1, 2, 3])]}
    )
    assert pointers(error) == ["/inputs/1/shape/0"]


@pytest.mark.parametrize("data", [[1, 2, 3, 4], [[1, 2], [3, 4]]])
def test_one_tensor_of_any_name_holds_all_fields(data: list[Any]) -> None:
    for name in ("input-0", "a"):
        assert inputs("sum", tensor(name, [2, 2], "INT32", data)) == [(1.0, 2.0), (3.0, 4.0)]


def test_a_tensor_of_all_fields_that_is_of_another_width_is_told_the_shape() -> None:
    for shape in ([1, 3], [3], [1, 1, 3]):
        error = refusal("sum", {"inputs": [tensor("input-0", shape, "FP64", [1, 2, 3])]})
        assert "[rows, 2]" in str(error)


def test_issues_in_a_tensor_of_all_fields_point_to_the_element() -> None:
    nested = refusal("sum", {"inputs": [tensor("x", [2, 2], "FP64", [[1, 2], [3, None]])]})
    assert pointers(nested) == ["/inputs/0/data/1/1"]
    assert "missing" in str(nested)
    flat = refusal("sum", {"inputs": [tensor("x", [2, 2], "FP64", [1, None, 3, 4])]})
    assert pointers(flat) == ["/inputs/0/data/1"]


def test_infinity_and_nan_in_binary_data_are_refused_by_place() -> None:
    head = {"name": "x", "shape": [2, 2], "datatype": "FP32", "parameters": {"binary_data_size": 16}}
    for number, told in (("inf", "finite"), ("nan", "missing")):
        text = orjson.dumps({"inputs": [head]})
        body = text + np.array([1, 2, 3, float(number)], "<f4").tobytes()
        error = refusal("sum", body, len(text))
        assert pointers(error) == ["/inputs/0"]
        assert "element 3" in str(error)
        assert told in str(error)


def test_json_and_binary_tensors_go_together_in_their_order() -> None:
    parts, heads = [], []
    for name, datatype, value in (("a", "FP32", 1.5), ("b", "INT16", -2)):
        raw = to_binary(DATATYPES[datatype], [value])
        size = {"binary_data_size": len(raw)}
        heads.append({"name": name, "shape": [1, 1], "datatype": datatype, "parameters": size})
        parts.append(raw)
    text = orjson.dumps({"inputs": heads})
    assert reader("sum", b"".join((text, *parts)), len(text)).read().inputs == [(1.5, -2.0)]
    heads[0] = tensor("a", [1], "FP64", [0.5])
    text = orjson.dumps({"inputs": heads})
    assert reader("sum", text + parts[1], len(text)).read().inputs == [(0.5, -2.0)]
    with pytest.raises(MalformedRequest, match="belong to no tensor"):
        reader("sum", text + parts[1] + b"x", len(text)).read()
    assert pointers(refusal("sum", text + b"x", len(text))) == ["/inputs/1/parameters/binary_data_size"]


@pytest.mark.parametrize(("datatype", "raw"), [("FP64", bytes(7)), ("FP64", bytes(16)), ("BOOL", b"\x07")])
def test_binary_data_that_is_not_of_its_shape_or_type_is_refused(datatype: str, raw: bytes) -> None:
    head = {"name": "a", "shape": [1], "datatype": datatype, "parameters": {"binary_data_size": len(raw)}}
    text = orjson.dumps({"inputs": [head]})
    assert pointers(refusal("sum", text + raw, len(text)))[0].startswith("/inputs/0")


def test_binary_text_must_be_utf_8_and_framed() -> None:
    for raw in (b"\x01\x00\x00\x00\xff", b"\x02\x00\x00\x00a", b"\x01\x00", b"\x01\x00\x00\x00a" * 2):
        size = {"binary_data_size": len(raw)}
        text = orjson.dumps(
            {"inputs": [{"name": "t", "shape": [1], "datatype": "BYTES", "parameters": size}]}
        )
        assert pointers(refusal("tone", text + raw, len(text))) == ["/inputs/0"]


@pytest.mark.parametrize(
    ("more", "pointer"),
    [
        ({"outputs": [{"name": "probabilities"}]}, "/outputs/0/name"),
        ({"outputs": [{"name": "predict"}, {"name": "predict"}]}, "/outputs/1/name"),
        (
            {"outputs": [{"name": "predict", "parameters": {"binary_data": 1}}]},
            "/outputs/0/parameters/binary_data",
        ),
        (
            {"outputs": [{"name": "predict", "parameters": {"classification": 2}}]},
            "/outputs/0/parameters/classification",
        ),
        ({"parameters": {"binary_data_output": "yes"}}, "/parameters/binary_data_output"),
        ({"id": 7}, "/id"),
        ({"parameters": []}, "/parameters"),
        ({"outputs": {}}, "/outputs"),
    ],
)
def test_options_that_do_not_fit_are_refused(more: dict[str, Any], pointer: str) -> None:
    body = {"inputs": [tensor("text", [1], "BYTES", ["a"])], **more}
    assert pointers(refusal("tone", body))[0] == pointer


def test_unset_members_may_be_null_and_unknown_ones_are_ignored() -> None:
    text = {**tensor("text", [1], "BYTES", ["a"]), "parameters": None}
    nulls = {"id": None, "parameters": {"content_type": None, "headers": None}, "outputs": None}
    found = reader("tone", {"inputs": [text], "model_name": "x", **nulls})
    assert found.read().inputs == ["a"]
    assert [output.name for output, _ in found.wanted] == ["predict", "predict_proba"]


def test_outputs_come_in_the_order_asked_for_each_in_its_form() -> None:
    outputs = [{"name": "predict_proba"}, {"name": "predict", "parameters": {"binary_data": False}}]
    body = {
        "inputs": [tensor("text", [1], "BYTES", ["a"])],
        "outputs": outputs,
        "parameters": {"binary_data_output": True},
    }
    found = reader("tone", body)
    found.read()
    assert [(output.name, binary) for output, binary in found.wanted] == [
        ("predict_proba", True),
        ("predict", False),
    ]


def test_whatever_shapes_the_answer_is_in_the_options() -> None:
    inputs_ = [tensor("text", [1], "BYTES", ["a"])]
    bodies: list[dict[str, Any]] = [
        {},
        {"id": "1"},
        {"id": "2"},
        {"outputs": [{"name": "predict"}]},
        {"outputs": [{"name": "predict", "parameters": {"binary_data": True}}]},
        {"parameters": {"binary_data_output": True}},
    ]
    options = {reader("tone", {"inputs": inputs_, **body}).read().options for body in bodies}
    options.add(reader("tone", {"inputs": inputs_}, version="1.2.3").read().options)
    assert len(options) == len(bodies) + 1
    assert reader("tone", {"inputs": inputs_, "outputs": []}).read().options in options


def test_a_version_that_is_not_served_is_unknown() -> None:
    with pytest.raises(UnknownModel):
        reader("tone", {}, version="1.2.4").read()
    with pytest.raises(UnknownModel):
        reader("nothing", {}).read()


def test_a_refusal_names_so_many_issues_and_counts_the_rest() -> None:
    texts = tensor("text", [MAX_ROWS], "BYTES", [" "] * MAX_ROWS)
    error = refusal("tone", {"inputs": [texts]})
    assert len(error.issues) == MAX_ISSUES
    assert str(error).endswith(f"(and {MAX_ROWS - 1} more)")
    broken = refusal("tone", {"inputs": [{}] * 1000})
    assert len(broken.issues) == MAX_ISSUES


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
near_tensors = st.fixed_dictionaries(
    {
        "name": st.sampled_from(["a", "b", "text", "x"]),
        "shape": st.lists(st.integers(-1, 3), max_size=3) | json_values,
        "datatype": st.sampled_from(sorted(DATATYPES)),
        "data": st.lists(json_values, max_size=4) | json_values,
    },
    optional={
        "parameters": st.fixed_dictionaries(
            {},
            optional={
                "binary_data_size": st.integers(-1, 20) | json_values,
                "content_type": st.sampled_from(["base64", "pd_json", "np", "x"]) | json_values,
            },
        )
        | json_values
    },
)


@given(
    st.sampled_from(["tone", "mix", "sum"]),
    st.lists(near_tensors, max_size=3),
    json_values,
    st.binary(max_size=20),
    st.integers(-2, 2),
)
def test_garbage_is_read_or_refused_and_nothing_else(
    model: str, tensors: list[Any], more: Any, rest: bytes, off: int
) -> None:
    document = {"inputs": tensors, "outputs": more, "parameters": more}
    text = orjson.dumps(document, option=orjson.OPT_NON_STR_KEYS) if _fits(document) else b"{}"
    try:
        asked = reader(model, text + rest, max(0, len(text) + off)).read()
    except RequestError:
        return
    assert asked.inputs


def _fits(document: Any) -> bool:
    """Whether orjson can write it: no integer beyond 64 bits."""
    try:
        orjson.dumps(document)
    except orjson.JSONEncodeError:
        return False
    return True


@given(st.binary(max_size=60), st.none() | st.integers(0, 60))
def test_bytes_that_are_no_request_are_refused(body: bytes, length: int | None) -> None:
    with pytest.raises(RequestError):
        reader("tone", body, length).read()
