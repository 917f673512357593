"""The compiled form of tree ensembles answers as the library does, or says that it does not cover a model."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import (
    AdaBoostClassifier,
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler, PolynomialFeatures, StandardScaler
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor
from xgboost import XGBClassifier, XGBRegressor, XGBRFClassifier

from falcon_wsgi.models import boosted
from falcon_wsgi.models.boosted import BoostedModel
from falcon_wsgi.models.compiled import NotCompilable
from falcon_wsgi.models.compiled_trees import CompiledTrees
from falcon_wsgi.models.signature import NumberField, TabularSignature

RNG = np.random.default_rng(11)
# Whole and half numbers, so that splits and drawn values meet on the same numbers.
X = np.round(RNG.normal(size=(300, 5)) * 8) / 2
BINARY = (X[:, 0] + X[:, 1] > 0).astype(int)
THREE = np.digitize(X[:, 1] + X[:, 2], (-2.0, 3.0))
VALUES = X @ (1.0, 2.0, -3.0, 0.5, 0.0) + RNG.normal(size=300)
COUNTS = RNG.poisson(np.exp(X[:, 0] / 4))

SIGNATURE = TabularSignature(fields=tuple(NumberField(name=f"x{i}", type="number") for i in range(5)))


def served(estimator: Any) -> Any:
    """As it is served: XGBoost from its own format."""
    parts = boosted.split(estimator)
    if parts is None:
        return estimator
    transform, booster, labels = parts
    return BoostedModel.load(booster, transform, labels)


CLASSIFIERS = [
    DecisionTreeClassifier(max_depth=6, random_state=0).fit(X, THREE),
    RandomForestClassifier(20, random_state=0).fit(X, THREE),
    ExtraTreesClassifier(10, random_state=0).fit(X, BINARY),
    make_pipeline(StandardScaler(), RandomForestClassifier(10, random_state=0)).fit(X, THREE),
    GradientBoostingClassifier(n_estimators=10, random_state=0).fit(X, THREE),
    GradientBoostingClassifier(n_estimators=10, random_state=0).fit(X, BINARY),
    HistGradientBoostingClassifier(max_iter=10, random_state=0).fit(X, THREE),
    make_pipeline(MinMaxScaler(), HistGradientBoostingClassifier(max_iter=10, random_state=0)).fit(X, BINARY),
]
REGRESSORS = [
    DecisionTreeRegressor(random_state=0).fit(X, VALUES),
    RandomForestRegressor(10, random_state=0).fit(X, VALUES),
    ExtraTreesRegressor(10, random_state=0).fit(X, VALUES),
    make_pipeline(MaxAbsScaler(), GradientBoostingRegressor(n_estimators=20, random_state=0)).fit(X, VALUES),
    HistGradientBoostingRegressor(max_iter=10, random_state=0).fit(X, VALUES),
]
XGB_CLASSIFIERS = [
    served(XGBClassifier(n_estimators=12, max_depth=4, n_jobs=1).fit(X, THREE)),
    served(XGBClassifier(n_estimators=12, max_depth=3, n_jobs=1).fit(X, BINARY)),
    served(make_pipeline(StandardScaler(), XGBClassifier(n_estimators=12, n_jobs=1)).fit(X, THREE)),
    served(XGBRFClassifier(n_estimators=12, n_jobs=1).fit(X, BINARY)),
    served(
        XGBClassifier(n_estimators=60, early_stopping_rounds=3, n_jobs=1).fit(
            X[:200], BINARY[:200], eval_set=[(X[200:], BINARY[200:])], verbose=False
        )
    ),
]
XGB_REGRESSORS = [
    served(XGBRegressor(n_estimators=12, n_jobs=1).fit(X, VALUES)),
    served(XGBRegressor(n_estimators=12, n_jobs=1, base_score=2.5).fit(X, VALUES)),
    served(XGBRegressor(objective="count:poisson", n_estimators=12, n_jobs=1).fit(X, COUNTS)),
    served(XGBRegressor(objective="reg:logistic", n_estimators=12, n_jobs=1).fit(X, BINARY)),
]
ROWS = st.tuples(*[st.integers(-20, 20).map(lambda n: n / 2) | st.floats(-1e4, 1e4, width=32)] * 5)


@pytest.mark.parametrize("estimator", CLASSIFIERS, ids=str)
@settings(max_examples=40, deadline=None)
@given(row=ROWS)
def test_probabilities_equal_scikit_learns(estimator: Any, row: tuple[float, ...]) -> None:
    expected = estimator.predict_proba([row])[0]
    assert CompiledTrees(estimator, SIGNATURE).scores([row])[0] == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("estimator", REGRESSORS, ids=str)
@settings(max_examples=40, deadline=None)
@given(row=ROWS)
def test_values_equal_scikit_learns(estimator: Any, row: tuple[float, ...]) -> None:
    expected = float(estimator.predict([row])[0])
    assert CompiledTrees(estimator, SIGNATURE).scores([row])[0] == pytest.approx(
        [expected], rel=1e-9, abs=1e-9
    )


@pytest.mark.parametrize("number", range(len(XGB_CLASSIFIERS)))
@settings(max_examples=40, deadline=None)
@given(row=ROWS)
def test_probabilities_equal_xgboosts(number: int, row: tuple[float, ...]) -> None:
    model = XGB_CLASSIFIERS[number]
    expected = model.predict_proba(np.array([row]))[0]
    assert CompiledTrees(model, SIGNATURE).scores([row])[0] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("number", range(len(XGB_REGRESSORS)))
@settings(max_examples=40, deadline=None)
@given(row=ROWS)
def test_values_equal_xgboosts(number: int, row: tuple[float, ...]) -> None:
    model = XGB_REGRESSORS[number]
    expected = float(model.predict(np.array([row]))[0])
    assert CompiledTrees(model, SIGNATURE).scores([row])[0] == pytest.approx([expected], rel=1e-6, abs=1e-6)


class Louder(RandomForestClassifier):
    """A subclass may answer otherwise."""


@pytest.mark.parametrize(
    "estimator",
    [
        AdaBoostClassifier(n_estimators=3).fit(X, BINARY),
        Louder(3).fit(X, BINARY),
        make_pipeline(PolynomialFeatures(), RandomForestClassifier(3)).fit(X, BINARY),
        make_pipeline(MinMaxScaler(clip=True), RandomForestClassifier(3)).fit(X, BINARY),
        GradientBoostingClassifier(n_estimators=3, loss="exponential").fit(X, BINARY),
        HistGradientBoostingRegressor(max_iter=3, loss="poisson").fit(X, COUNTS),
        HistGradientBoostingRegressor(max_iter=3, categorical_features=[0]).fit(
            np.column_stack((THREE, X[:, 1:])), VALUES
        ),
        served(XGBRegressor(booster="dart", n_estimators=3, rate_drop=0.5, n_jobs=1).fit(X, VALUES)),
        served(XGBRegressor(booster="gblinear", n_estimators=3, n_jobs=1).fit(X, VALUES)),
    ],
    ids=lambda model: str(type(model).__name__),
)
def test_what_is_not_covered_is_refused(estimator: Any) -> None:
    with pytest.raises(NotCompilable):
        CompiledTrees(estimator, SIGNATURE)


def test_missing_values_are_left_to_the_library() -> None:
    field = NumberField(name="x0", type="number", nullable=True)
    signature = TabularSignature(fields=(field, *SIGNATURE.fields[1:]))
    with pytest.raises(NotCompilable, match="may be missing"):
        CompiledTrees(REGRESSORS[0], signature)


@pytest.mark.parametrize("number", range(len(XGB_CLASSIFIERS)))
def test_rows_together_get_the_answers_that_they_get_alone(number: int) -> None:
    compiled = CompiledTrees(XGB_CLASSIFIERS[number], SIGNATURE)
    rows = [tuple(row) for row in X[:70].tolist()]
    assert compiled.scores(rows) == [compiled.scores([row])[0] for row in rows]
