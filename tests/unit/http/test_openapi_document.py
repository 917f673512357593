"""The OpenAPI document: valid, complete in itself, and about this instance."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import jsonschema_rs
import pytest
from schemathesis.specs.openapi.definitions import OPENAPI_31

from falcon_wsgi.http.openapi.document import build
from falcon_wsgi.http.openapi.facts import Facts
from falcon_wsgi.http.problems import STATUS
from falcon_wsgi.models.manifest import GoldenExample, Manifest
from falcon_wsgi.models.signature import (
    BooleanField,
    CategoryField,
    NumberField,
    TabularSignature,
    TextSignature,
)
from tests.unit.models.stored import manifest

Json = dict[str, Any]


@dataclass(frozen=True)
class Model:
    manifest: Manifest

    @property
    def name(self) -> str:
        return self.manifest.name


def model(name: str, kind: Any, signature: Any, labels: tuple[Any, ...], *golden: GoldenExample) -> Model:
    return Model(manifest("1.2.0", name=name, kind=kind, signature=signature, labels=labels, golden=golden))


def golden(input_: Any, prediction: Any, **probabilities: float) -> GoldenExample:
    return GoldenExample(input=input_, prediction=prediction, probabilities=probabilities or None)


SENTIMENT = model(
    "sentiment",
    "text_classification",
    TextSignature(),
    ("bad", "good"),
    golden("great", "good", bad=0.1, good=0.9),
    golden("awful", "bad", bad=0.8, good=0.2),
)
SHORT = model("short", "text_regression", TextSignature(min_length=2, max_length=50), (), golden("abc", 1.5))
FLOWER = model(
    "flower",
    "tabular_classification",
    TabularSignature(
        fields=tuple(NumberField(name=name, type="number", minimum=0, maximum=9) for name in ("a", "b"))
    ),
    (0, 1),
    golden({"a": 1, "b": 2}, 0, **{"0": 0.75, "1": 0.25}),
    golden({"a": 5, "b": 2}, 1, **{"0": 0.25, "1": 0.75}),
)
RENT = model(
    "rent-2",
    "tabular_regression",
    TabularSignature(
        fields=(
            NumberField(name="a~/b", type="integer", nullable=True),
            CategoryField(name="kind", type="category", categories=("flat", "house")),
            BooleanField(name="garden", type="boolean"),
        )
    ),
    (),
    golden({"kind": "flat", "garden": True}, 12.5),
)
ALL = (SENTIMENT, SHORT, FLOWER, RENT)
EVERYTHING = Facts(ALL, keyed=True, idempotency=True, rate_limited=True)
VARIANTS = {
    "everything": EVERYTHING,
    "nothing": Facts((), keyed=False, idempotency=False, rate_limited=False),
    "one of a kind": Facts((SENTIMENT, FLOWER)),
    "texts only": Facts((SHORT,)),
    "rows only": Facts((FLOWER, RENT)),
}


@pytest.fixture(params=VARIANTS, scope="module")
def document(request: pytest.FixtureRequest) -> Json:
    return build(VARIANTS[request.param])


def operations(document: Json) -> Iterator[tuple[str, str, Json]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def found(part: Any, name: str) -> Iterator[Any]:
    """Every value under that key, at any depth."""
    if isinstance(part, dict):
        for key, value in part.items():
            if key == name:
                yield value
            yield from found(value, name)
    elif isinstance(part, list):
        for value in part:
            yield from found(value, name)


def resolve(document: Json, part: Json) -> Json:
    if "$ref" not in part:
        return part
    _, components, kind, name = part["$ref"].split("/")
    resolved: Json = document[components][kind][name]
    return resolved


def is_valid(document: Json, schema: Json, value: Any) -> bool:
    whole = schema | {"components": document["components"]}
    return jsonschema_rs.validator_for(whole).is_valid(value)


def content(document: Json, path: str) -> Json:
    body: Json = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]
    return body


def test_the_document_is_valid_by_the_official_schema(document: Json) -> None:
    jsonschema_rs.validator_for(OPENAPI_31).validate(document)
    for schema in document["components"]["schemas"].values():
        jsonschema_rs.meta.validate(schema | {"$schema": "https://json-schema.org/draft/2020-12/schema"})


def test_every_reference_has_its_component_and_every_component_its_reference(document: Json) -> None:
    references = {reference for reference in found(document, "$ref") if isinstance(reference, str)}
    components = {
        f"#/components/{kind}/{name}"
        for kind, parts in document["components"].items()
        if kind != "securitySchemes"
        for name in parts
    }
    assert references == components


def test_operations_have_names_of_their_own(document: Json) -> None:
    names = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(set(names)) == len(names)
    assert all(name.isidentifier() for name in names)


def test_examples_of_bodies_and_answers_fit_their_schemas(document: Json) -> None:
    for path, _, operation in operations(document):
        bodies = [operation.get("requestBody", {"content": {}})]
        bodies += [resolve(document, response) for response in operation["responses"].values()]
        for media in (media for body in bodies for media in body.get("content", {}).values()):
            shown = [example["value"] for example in media.get("examples", {}).values()]
            shown += [media["example"]] if "example" in media else []
            for example in shown:
                assert is_valid(document, media["schema"], example), (path, example)


def test_every_answer_carries_the_ids(document: Json) -> None:
    for path, method, operation in operations(document):
        for status, response in operation["responses"].items():
            if status != "304":
                assert {"X-Request-ID", "X-Worker-ID"} <= set(resolve(document, response)["headers"]), (
                    path,
                    method,
                    status,
                )


def test_model_routes_document_every_status_that_an_error_is_mapped_to() -> None:
    document = build(EVERYTHING)
    elsewhere = {403}  # loading models
    for path in ("/infer", "/infer/batch", "/predict", "/v2/models/flower/infer"):
        documented = set(map(int, document["paths"][path]["post"]["responses"]))
        assert documented == {200, *STATUS.values()} - elsewhere


def test_each_model_has_an_example_that_bears_its_name() -> None:
    document = build(EVERYTHING)
    assert set(content(document, "/infer")["examples"]) == {"sentiment", "sentiment.2", "short"}
    assert set(content(document, "/infer/batch")["examples"]) == {"sentiment", "short"}
    predict = content(document, "/predict")["examples"]
    assert set(predict) == {"flower", "flower.2", "rent-2"}
    assert predict["flower"]["value"] == {"a": 1, "b": 2}
    for each in ALL:
        path = f"/v2/models/{each.name}/versions/1.2.0/infer"
        assert each.name in content(document, path)["examples"]


def test_a_row_must_fit_exactly_one_model() -> None:
    document = build(EVERYTHING)
    schema = content(document, "/predict")["schema"]
    assert is_valid(document, schema, {"a": 1, "b": 2})
    assert is_valid(document, schema, {"a~/b": 3, "kind": "flat", "garden": False})
    assert not is_valid(document, schema, {"a": 1})
    assert not is_valid(document, schema, {"a": 10, "b": 2})
    assert not is_valid(document, schema, {"a": 1, "b": 2, "c": 3})


def test_the_only_model_of_a_kind_is_named_without_a_choice() -> None:
    document = build(Facts((SHORT, FLOWER)))
    assert content(document, "/infer")["schema"] == {"$ref": "#/components/schemas/short-input"}
    assert content(document, "/predict")["schema"] == {"$ref": "#/components/schemas/flower-input"}


@pytest.mark.parametrize("path", ["/infer", "/infer/batch"])
def test_a_text_model_shows_its_own_limits(path: str) -> None:
    document = build(Facts((SHORT,)))
    schema = content(document, path)["schema"]

    def fits(text: str) -> bool:
        return is_valid(document, schema, {"text": text} if path == "/infer" else {"texts": [text]})

    assert fits("ab")
    assert fits("x" * 50)
    assert not fits("a")
    assert not fits("x" * 51)
    assert not fits(" " * 5)


def test_the_example_answers_are_the_recorded_ones() -> None:
    document = build(EVERYTHING)
    answers = document["paths"]["/predict"]["post"]["responses"]["200"]["content"]["application/json"][
        "examples"
    ]
    flower, rent = answers["flower"]["value"], answers["rent-2"]["value"]
    assert (flower["prediction"], flower["predicted_class"], flower["confidence"]) == (0, 0, 0.75)
    assert (rent["prediction"], rent["predicted_class"], rent["confidence"]) == (12.5, None, None)
    assert (rent["model_version"], rent["features_used"]) == ("1.2.0", 3)


def test_keys_are_asked_for_only_where_there_are_keys() -> None:
    open_document, keyed = build(replace(EVERYTHING, keyed=False)), build(EVERYTHING)
    assert "security" not in open_document
    assert "401" not in open_document["paths"]["/predict"]["post"]["responses"]
    assert set(keyed["components"]["securitySchemes"]) == {"bearer", "apiKey", "basic"}
    assert keyed["security"] == [{"bearer": []}, {"apiKey": []}, {"basic": []}]
    for path, _, operation in operations(keyed):
        is_open = path in ("/healthz", "/readyz")
        assert (operation.get("security") == []) is is_open
        assert ("401" in operation["responses"]) is not is_open


@pytest.mark.parametrize(
    ("feature", "parameters", "headers"),
    [
        (
            "idempotency",
            {"Idempotency-Key", "X-Idempotency-Key"},
            {"Idempotency-Replayed", "Idempotency-Status"},
        ),
        ("rate_limited", set(), {"RateLimit", "RateLimit-Policy"}),
    ],
)
def test_what_is_switched_off_is_not_documented(
    feature: str, parameters: set[str], headers: set[str]
) -> None:
    on, off = build(EVERYTHING), build(replace(EVERYTHING, **{feature: False}))
    assert parameters <= set(on["components"]["parameters"])
    assert headers <= set(on["components"]["headers"])
    assert not parameters & set(off["components"]["parameters"])
    assert not headers & set(off["components"]["headers"])


def test_without_a_model_for_it_a_route_says_that_it_answers_503() -> None:
    document = build(Facts(()))
    assert "503" in document["paths"]["/predict"]["post"]["description"]
    assert "examples" not in content(document, "/predict")
    assert not [path for path in document["paths"] if path.endswith("/infer") and path.startswith("/v2")]
