"""A user's files are checked before anything is loaded, and each fault says where it is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from falcon_wsgi.errors import CandidateInvalid
from falcon_wsgi.models import offer
from falcon_wsgi.models.signature import CategoryField, NumberField, TabularSignature, TextSignature

ROW = TabularSignature(
    fields=(
        NumberField(name="age", type="integer", minimum=0),
        CategoryField(name="a/b", type="category", categories=("x",), nullable=True),
    )
)


def written(folder: Path, contents: Any) -> Path:
    path = folder / "given.json"
    path.write_text(contents if isinstance(contents, str) else json.dumps(contents))
    return path


def field(**more: Any) -> dict[str, Any]:
    return {
        "type": "tabular",
        "fields": [{"name": "a", "type": "number"}, {"name": "b", "type": "number", **more}],
    }


def test_signature_is_read(tmp_path: Path) -> None:
    assert offer.signature(written(tmp_path, {"type": "text", "max_length": 9})) == TextSignature(
        max_length=9
    )


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        ("", "given.json is empty"),
        (
            "{",
            "given.json is not JSON: Expecting property name enclosed in double quotes in line 1, column 2",
        ),
        ('{"type": NaN}', "given.json is not JSON: NaN is not a number of JSON"),
        ("[" * 100_000, "given.json is not JSON: "),
        ([], "given.json: "),
        ({"type": "video"}, "given.json: /type: "),
        ({}, "given.json: /type: "),
        ({"type": "tabular"}, "given.json: /fields: Field required"),
        ({"type": "text", "max_length": "9"}, "given.json: /max_length: "),
        ({"type": "text", "fields": []}, "given.json: /fields: Extra inputs"),
        (field(minimum="low"), "given.json: /fields/1/minimum: "),
        (field(type="date"), "given.json: /fields/1/type: "),
        (field(type="category"), "given.json: /fields/1/categories: Field required"),
        (field(minimum=2, maximum=1), "given.json: /fields/1: the minimum of b is above its maximum"),
        (field(name="a"), "given.json: there are two fields named a"),
    ],
)
def test_fault_of_a_signature_is_located(tmp_path: Path, contents: Any, message: str) -> None:
    with pytest.raises(CandidateInvalid) as refused:
        offer.signature(written(tmp_path, contents))
    assert str(refused.value).startswith(message.rstrip()), refused.value
    assert "\n" not in str(refused.value)


def test_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(CandidateInvalid, match=r"^nothing\.json cannot be read: No such file or directory$"):
        offer.signature(tmp_path / "nothing.json")


@pytest.mark.parametrize(
    ("contents", "expected"),
    [
        ({"age": 1}, [({"age": 1}, None, None)]),
        (
            [{"age": 1}, {"age": 2, "a/b": "x"}],
            [({"age": 1}, None, None), ({"age": 2, "a/b": "x"}, None, None)],
        ),
        ({"input": {"age": 1}, "prediction": 2.5}, [({"age": 1}, 2.5, None)]),
        (
            [{"input": {"age": 1}, "prediction": "no", "probabilities": {"no": 1, "yes": 0}}],
            [({"age": 1}, "no", {"no": 1, "yes": 0})],
        ),
    ],
)
def test_examples_are_inputs_with_or_without_answers(tmp_path: Path, contents: Any, expected: Any) -> None:
    found = offer.examples(written(tmp_path, contents), ROW)
    assert [(each.input, each.prediction, each.probabilities) for each in found] == expected


def test_field_called_input_is_a_field(tmp_path: Path) -> None:
    signature = TabularSignature(
        fields=(NumberField(name="input", type="number"), NumberField(name="b", type="number"))
    )
    (found,) = offer.examples(written(tmp_path, {"input": 1, "b": 2}), signature)
    assert found.input == {"input": 1, "b": 2}


def test_texts_are_examples(tmp_path: Path) -> None:
    found = offer.examples(written(tmp_path, ["good", {"input": "bad", "prediction": 1}]), TextSignature())
    assert [each.input for each in found] == ["good", "bad"]


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        ([], "given.json: there must be at least one example"),
        ({"age": -1}, "given.json: /age: Input should be greater than or equal to 0"),
        ([{"age": 1}, {"age": 1, "a/b": "y"}], "given.json: /1/a~1b: Input should be 'x'"),
        ([{"input": {}}], "given.json: /0/input/age: Field required"),
        ({"input": {"age": 1}, "prediction": [1]}, "given.json: /prediction: "),
        ([{"input": {"age": 1}, "prediction": 1, "probabilities": [1]}], "given.json: /0/probabilities: "),
        ({"input": {"age": 1}, "probabilities": {"a": 1}}, "given.json: /prediction: Field required"),
        ("7", "given.json: Input should be a valid dictionary"),
    ],
)
def test_fault_of_an_example_is_located(tmp_path: Path, contents: Any, message: str) -> None:
    with pytest.raises(CandidateInvalid) as refused:
        offer.examples(written(tmp_path, contents), ROW)
    assert str(refused.value).startswith(message.rstrip()), refused.value


def test_labels_are_a_json_array() -> None:
    assert offer.labels(None) is None
    assert offer.labels('["no", "yes"]') == ("no", "yes")
    for wrong in ("no,yes", '{"a": 1}', "[1.5, 2]", "[null]"):
        with pytest.raises(CandidateInvalid, match=r"^--labels: give a JSON array"):
            offer.labels(wrong)
