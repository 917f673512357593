"""The signature that example rows and a fitted pipeline tell."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA
from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestRegressor
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import KNNImputer, SimpleImputer
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler, TargetEncoder

from falcon_wsgi.errors import CandidateInvalid
from falcon_wsgi.models import columns, examples
from falcon_wsgi.models.examples import Wishes
from falcon_wsgi.models.signature import (
    BooleanField,
    CategoryField,
    NumberField,
    StringField,
    TabularField,
    TabularSignature,
    TextSignature,
)

N = 12
TARGET = np.arange(N, dtype=float)
CITY = pd.Series(["Rome", "Paris", "Oslo"] * 4, dtype=object)


def without_oslo(gap: Any) -> pd.Series:
    return pd.Series([gap if city == "Oslo" else city for city in CITY], dtype=object)


def fields(given: Any, estimator: Any = None, **wishes: Any) -> dict[str, TabularField]:
    found = columns.read(given, estimator, wishes.pop("field_names", None))
    signature = examples.infer(found, estimator, Wishes(**wishes))
    assert isinstance(signature, TabularSignature)
    return {field.name: field for field in signature.fields}


def only(series: Any, estimator: Any = None, **wishes: Any) -> TabularField:
    """The field of a frame with this one column, named c."""
    frame = pd.DataFrame({"c": series})
    if estimator is not None:
        estimator.fit(frame, TARGET)
    return fields(frame, estimator, **wishes)["c"]


def after(step: Any, model: Any = None) -> Any:
    return make_pipeline(ColumnTransformer([("step", step, ["c"])]), model or Ridge())


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (pd.Series([1.5, 2]), NumberField(name="c", type="number")),
        (pd.Series([1.5, None]), NumberField(name="c", type="number", nullable=True)),
        (pd.Series([1.5, 2], dtype="float32"), NumberField(name="c", type="number", dtype="float32")),
        (pd.Series([1, 2], dtype="uint8"), NumberField(name="c", type="integer")),
        (pd.Series([1, None], dtype="Int64"), NumberField(name="c", type="integer", nullable=True)),
        (pd.Series([1, 2], dtype=object), NumberField(name="c", type="integer", dtype="object")),
        (pd.Series([1, 2.5], dtype=object), NumberField(name="c", type="number", dtype="object")),
        (pd.Series([True, False]), BooleanField(name="c", type="boolean")),
        (
            pd.Series([True, None], dtype=object),
            BooleanField(name="c", type="boolean", dtype="object", nullable=True, missing="none"),
        ),
        (
            pd.Series(["b", "a"]),
            CategoryField(name="c", type="category", categories=("a", "b"), dtype="str"),
        ),
        (
            pd.Series(["b", np.nan], dtype=object),
            CategoryField(name="c", type="category", categories=("b",), nullable=True),
        ),
        (
            pd.Series(["b"], dtype=pd.CategoricalDtype(["b", "unseen"])),
            CategoryField(name="c", type="category", categories=("b", "unseen"), dtype="category"),
        ),
        (
            pd.Series([2, 1], dtype="category"),
            CategoryField(name="c", type="category", categories=(1, 2), dtype="category"),
        ),
        (pd.Series([f"text {i}" for i in range(51)]), StringField(name="c", type="string", dtype="str")),
    ],
)
def test_type_comes_from_the_column(values: pd.Series, expected: TabularField) -> None:
    assert only(values) == expected


@pytest.mark.parametrize(
    "values",
    [
        pd.Series(pd.to_datetime(["2026-01-01"])),
        pd.Series(pd.to_timedelta(["1h"])),
        pd.Series([1 + 2j]),
        pd.Series([1.5], dtype="float16"),
        pd.Series([0, 1], dtype="Sparse[int]"),
        pd.Series([1.5, 2.5], dtype="category"),
        pd.Series([[1], [2]]),
        pd.Series(["a", 1], dtype=object),
        pd.Series([None, None], dtype=object),
    ],
)
def test_column_without_a_form_in_json_is_refused_by_name(values: pd.Series) -> None:
    with pytest.raises(CandidateInvalid, match=r"^c: "):
        only(values)


def test_closed_encoder_gives_its_categories_also_those_that_no_example_has() -> None:
    pipeline = after(OneHotEncoder(categories=[["Oslo", "Paris", "Rome", "Turin"]]))
    assert only(CITY, pipeline) == CategoryField(
        name="c", type="category", categories=("Oslo", "Paris", "Rome", "Turin")
    )


def test_encoder_of_whole_numbers_gives_categories_of_numbers() -> None:
    found = only(pd.Series([1.0, 2.0, 3.0] * 4), after(OrdinalEncoder()))
    assert found == CategoryField(name="c", type="category", categories=(1, 2, 3), dtype="float64")


def test_encoder_of_fractions_is_refused_with_a_remedy() -> None:
    with pytest.raises(CandidateInvalid, match=r"^c: 1\.5 cannot be a category.*handle_unknown='ignore'"):
        only(pd.Series([1.5, 2.5, 3.5] * 4), after(OneHotEncoder()))


@pytest.mark.parametrize(
    "encoder",
    [
        OneHotEncoder(handle_unknown="ignore"),
        OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1),
        TargetEncoder(cv=2, target_type="continuous"),
    ],
)
def test_encoder_that_takes_the_unknown_leaves_the_field_open(encoder: Any) -> None:
    assert isinstance(only(CITY, after(encoder)), StringField)


def test_two_encoders_of_a_column_allow_what_both_know() -> None:
    pipeline = make_pipeline(
        ColumnTransformer(
            [
                ("a", OneHotEncoder(categories=[["Oslo", "Paris", "Rome", "Turin"]]), ["c"]),
                ("b", OrdinalEncoder(), ["c"]),
            ]
        ),
        Ridge(),
    )
    found = only(CITY, pipeline)
    assert isinstance(found, CategoryField)
    assert found.categories == ("Oslo", "Paris", "Rome")


def test_column_of_words_is_any_text() -> None:
    pipeline = make_pipeline(ColumnTransformer([("words", TfidfVectorizer(), "c")]), Ridge())
    assert only(CITY, pipeline) == StringField(name="c", type="string", max_length=10_000)


def test_search_is_looked_through() -> None:
    search = GridSearchCV(after(OneHotEncoder()), {"ridge__alpha": [1.0]}, cv=2)
    assert isinstance(only(CITY, search), CategoryField)


NUMBERS = pd.Series(TARGET)
BOOSTING = HistGradientBoostingRegressor(max_iter=1)


@pytest.mark.parametrize(
    ("pipeline", "nullable"),
    [
        (LinearRegression(), False),
        (make_pipeline(SimpleImputer(), Ridge()), True),
        (make_pipeline(KNNImputer(), StandardScaler(), Ridge()), True),
        (make_pipeline(StandardScaler(), SimpleImputer(), Ridge()), True),
        (make_pipeline(SimpleImputer(missing_values=-1), Ridge()), False),
        (BOOSTING, True),
        (make_pipeline(StandardScaler(), BOOSTING), True),
        (make_pipeline(PCA(), BOOSTING), False),
        (after("passthrough", BOOSTING), True),
        (after("passthrough"), False),
        (after(SimpleImputer()), True),
        (after(StandardScaler(), make_pipeline(StandardScaler(), BOOSTING)), True),
        (RandomForestRegressor(3), False),
    ],
)
def test_value_may_be_missing_where_the_pipeline_was_made_for_it(pipeline: Any, nullable: bool) -> None:
    assert only(NUMBERS, pipeline).nullable is nullable


def test_column_that_also_goes_elsewhere_unfilled_may_not_be_missing() -> None:
    pipeline = make_pipeline(
        ColumnTransformer([("filled", SimpleImputer(), ["c"]), ("bare", "passthrough", ["c"])]), Ridge()
    )
    assert not only(NUMBERS, pipeline).nullable


@pytest.mark.parametrize(("gap", "marker"), [(None, "none"), (np.nan, "nan")])
def test_missing_is_what_the_encoder_has_seen(gap: Any, marker: str) -> None:
    pipeline = after(OneHotEncoder())
    pipeline.fit(pd.DataFrame({"c": without_oslo(gap)}), TARGET)
    whole = pd.DataFrame({"c": CITY[CITY != "Oslo"]})
    found = fields(whole, pipeline)["c"]
    assert isinstance(found, CategoryField)
    assert (found.nullable, found.missing, found.categories) == (True, marker, ("Paris", "Rome"))


def test_missing_is_what_the_imputer_fills() -> None:
    filled = make_pipeline(
        SimpleImputer(missing_values=None, strategy="constant", fill_value="?"), OneHotEncoder()
    )
    found = only(without_oslo(None), after(filled))
    assert isinstance(found, CategoryField)
    assert (found.nullable, found.missing) == (True, "none")
    assert found.categories == ("Paris", "Rome"), "what stands for a missing value is no value to be sent"


FRAME = pd.DataFrame({"b": [1.0, 2.0], "a": [3, 4], "target": [0, 1]})


def test_fields_have_the_order_of_fitting_and_other_columns_are_left_out() -> None:
    model = LinearRegression().fit(FRAME[["b", "a"]], FRAME["target"])
    assert list(fields(FRAME[["target", "a", "b"]], model)) == ["b", "a"]


def test_array_has_the_names_given_or_those_of_the_estimator_or_numbers() -> None:
    array = FRAME[["b", "a"]].to_numpy()
    named = LinearRegression().fit(FRAME[["b", "a"]], FRAME["target"])
    assert list(fields(array, named)) == ["b", "a"]
    assert list(fields(array, LinearRegression().fit(array, [0, 1]))) == ["x0", "x1"]
    assert list(fields(array, field_names=["p", "q"])) == ["p", "q"]


def test_dictionaries_are_rows() -> None:
    found = fields([{"a": 1, "b": "x"}, {"a": 2, "b": None}])
    assert isinstance(found["a"], NumberField)
    assert found["b"].nullable


@pytest.mark.parametrize("texts", [["a", "b"], pd.Series(["a", "b"]), np.array(["a", "b"])])
def test_list_of_texts_is_for_a_text_model(texts: Any) -> None:
    found = columns.read(texts, None)
    assert examples.infer(found, None, Wishes()) == TextSignature()
    assert examples.rows_of(found) == ["a", "b"]


@pytest.mark.parametrize(
    "nothing",
    [[], [1, 2], [["a", 1]], pd.DataFrame(), pd.DataFrame({"a": []}), np.zeros((2, 2, 2)), "text", None],
)
def test_other_examples_are_refused(nothing: Any) -> None:
    with pytest.raises(CandidateInvalid):
        columns.read(nothing, None)


def test_frames_with_unclear_names_are_refused() -> None:
    with pytest.raises(CandidateInvalid, match="must be text, not 0"):
        columns.read(pd.DataFrame([[1, 2]]), None)
    with pytest.raises(CandidateInvalid, match="same name"):
        columns.read(pd.DataFrame([[1, 2]], columns=["a", "a"]), None)
    with pytest.raises(CandidateInvalid, match="field_names is for arrays"):
        columns.read(FRAME, None, ["a"])
    with pytest.raises(CandidateInvalid, match="1 field names for 2 columns"):
        columns.read(np.zeros((2, 2)), None, ["a"])


def test_bounds_are_those_asked_for() -> None:
    assert only(NUMBERS) == NumberField(name="c", type="number")
    assert only(NUMBERS, bounds={"c": (0, None)}) == NumberField(name="c", type="number", minimum=0)
    assert only(NUMBERS, bounds="examples") == NumberField(name="c", type="number", minimum=0, maximum=N - 1)


def test_wishes_go_before_what_is_found() -> None:
    assert only(CITY, categories={"c": ["Rome"]}) == CategoryField(
        name="c", type="category", categories=("Rome",)
    )
    assert isinstance(only(CITY, categories={"c": None}), StringField)
    found = only(NUMBERS, nullable=["c"], descriptions={"c": "What it is."})
    assert (found.nullable, found.description) == (True, "What it is.")


@pytest.mark.parametrize(
    "wish",
    [
        {"bounds": {"d": (0, 1)}},
        {"categories": {"d": None}},
        {"nullable": ["d"]},
        {"descriptions": {"d": ""}},
    ],
)
def test_wish_for_a_field_that_is_not_there_is_refused(wish: dict[str, Any]) -> None:
    with pytest.raises(CandidateInvalid, match="names d, but there is no such field"):
        only(NUMBERS, **wish)


def test_bounds_of_a_text_or_the_wrong_way_round_are_refused() -> None:
    with pytest.raises(CandidateInvalid, match=r"^c: only a field of numbers has bounds"):
        only(CITY, bounds={"c": (0, 1)})
    with pytest.raises(CandidateInvalid, match=r"^c: the minimum of c is above its maximum"):
        only(NUMBERS, bounds={"c": (1, 0)})


def test_example_that_its_own_signature_refuses_is_named() -> None:
    found = columns.read(pd.DataFrame({"c": [1.0, np.inf]}), None)
    signature = examples.infer(found, None, Wishes())
    with pytest.raises(CandidateInvalid, match=r"^example 1 does not fit the signature: /c: .*finite"):
        examples.inputs_of(examples.rows_of(found), signature)
