"""Which model answers: by name, by the fields of a row, or because there is only one."""

from __future__ import annotations

from typing import Any

import pytest

from falcon_wsgi.errors import NotReady, UnknownModel, ValidationFailed
from falcon_wsgi.models.catalogue import Catalogue
from falcon_wsgi.models.forms import form_of
from falcon_wsgi.models.signature import NumberField, TabularSignature, TextSignature


class Model:
    """What the catalogue asks of a served model."""

    def __init__(self, name: str, signature: TextSignature | TabularSignature) -> None:
        self.name = name
        self.version = "1.0.0"
        self.digest = name
        self.form = form_of(signature)


def text(name: str) -> Model:
    return Model(name, TextSignature())


def rows(name: str, *fields: str) -> Model:
    """A model of these fields; those with a question mark may be missing."""
    return Model(
        name,
        TabularSignature(
            fields=tuple(
                NumberField(name=field.rstrip("?"), type="number", nullable=field.endswith("?"))
                for field in fields
            )
        ),
    )


def catalogue(*models: Any) -> Catalogue:
    return Catalogue({model.name: model for model in models})


IRIS = rows("iris", "length", "width")
CARS = rows("cars", "weight", "power", "doors?")


def test_a_row_finds_the_model_of_its_fields() -> None:
    both = catalogue(IRIS, CARS, text("sentiment"))
    assert both.for_fields(frozenset({"length", "width"})).name == "iris"
    assert both.for_fields(frozenset({"weight", "power"})).name == "cars"
    assert both.for_fields(frozenset({"weight", "power", "doors"})).name == "cars"


def test_the_nearest_model_is_named_with_what_is_missing_and_unknown() -> None:
    with pytest.raises(ValidationFailed) as failed:
        catalogue(IRIS, CARS).for_fields(frozenset({"weight", "colour"}))
    assert "nearest is cars (missing: power; unknown: colour)" in str(failed.value)
    assert [(issue["pointer"], issue["type"]) for issue in failed.value.issues] == [
        ("/power", "missing"),
        ("/colour", "extra_forbidden"),
    ]


def test_a_field_name_is_escaped_in_its_pointer() -> None:
    with pytest.raises(ValidationFailed) as failed:
        catalogue(IRIS).for_fields(frozenset({"length", "width", "a/b~c"}))
    assert failed.value.issues[0]["pointer"] == "/a~1b~0c"


def test_fields_of_two_models_have_to_be_told_apart_by_name() -> None:
    twins = catalogue(rows("north", "x"), rows("south", "x", "y?"))
    with pytest.raises(ValidationFailed, match=r"\?model=north or south"):
        twins.for_fields(frozenset({"x"}))
    assert twins.for_fields(frozenset({"x", "y"})).name == "south"
    assert twins.for_rows("north").name == "north"


def test_texts_go_to_sentiment_or_to_the_only_text_model() -> None:
    assert catalogue(text("sentiment"), text("other"), IRIS).for_texts().name == "sentiment"
    assert catalogue(text("other"), IRIS).for_texts().name == "other"
    assert catalogue(text("a"), text("b")).for_texts("b").name == "b"
    with pytest.raises(UnknownModel, match=r"\?model=a or b"):
        catalogue(text("a"), text("b")).for_texts()


def test_no_model_of_the_kind_is_not_ready() -> None:
    with pytest.raises(NotReady):
        catalogue(IRIS).for_texts()
    with pytest.raises(NotReady):
        catalogue(text("sentiment")).for_fields(frozenset({"x"}))


def test_a_name_of_the_other_kind_is_refused_with_the_right_route() -> None:
    both = catalogue(IRIS, text("sentiment"))
    with pytest.raises(UnknownModel, match="/predict"):
        both.for_texts("iris")
    with pytest.raises(UnknownModel, match="/infer"):
        both.for_rows("sentiment")
    with pytest.raises(UnknownModel, match="there is: iris, sentiment"):
        both.for_rows("roses")


def test_a_version_that_is_not_served_is_unknown() -> None:
    assert catalogue(IRIS).named("iris", "1.0.0").name == "iris"
    with pytest.raises(UnknownModel, match=r"2\.0\.0"):
        catalogue(IRIS).named("iris", "2.0.0")
