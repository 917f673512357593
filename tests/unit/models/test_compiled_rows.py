"""The compiled linear form of rows answers as scikit-learn does, or says that it does not cover a model."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import ElasticNet, Lasso, LinearRegression, LogisticRegression, Ridge
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler, PolynomialFeatures, StandardScaler

from falcon_wsgi.models.compiled import NotCompilable
from falcon_wsgi.models.compiled_rows import CompiledLinearRows
from falcon_wsgi.models.signature import CategoryField, NumberField, TabularSignature

RNG = np.random.default_rng(7)
X = RNG.normal(size=(120, 4)) * (1.0, 10.0, 0.1, 1000.0) + (0.0, 5.0, -1.0, 300.0)
BINARY = (X[:, 0] + X[:, 1] / 10 > 0.4).astype(int)
THREE = np.digitize(X[:, 1] + X[:, 0], (2.0, 9.0))
VALUES = X @ (1.0, 2.0, 3.0, 0.01) + RNG.normal(size=120)

SIGNATURE = TabularSignature(fields=tuple(NumberField(name=f"x{i}", type="number") for i in range(4)))

CLASSIFIERS = [
    make_pipeline(StandardScaler(), LogisticRegression()).fit(X, THREE),
    make_pipeline(StandardScaler(), LogisticRegression()).fit(X, BINARY),
    make_pipeline(StandardScaler(with_mean=False), LogisticRegression(max_iter=5000)).fit(X, BINARY),
    make_pipeline(StandardScaler(with_std=False), LogisticRegression(max_iter=9000, tol=0.1)).fit(X, BINARY),
    make_pipeline(MinMaxScaler(), MaxAbsScaler(), LogisticRegression(fit_intercept=False)).fit(X, THREE),
    make_pipeline(StandardScaler(), LogisticRegression(solver="liblinear")).fit(X, BINARY),
    LogisticRegression(max_iter=9000).fit(X[:, :4] / 100, THREE),
]
REGRESSORS = [
    LinearRegression().fit(X, VALUES),
    make_pipeline(MinMaxScaler((-1, 3)), Ridge()).fit(X, VALUES),
    make_pipeline(StandardScaler(), Lasso(alpha=0.01)).fit(X, VALUES),
    make_pipeline(MaxAbsScaler(), ElasticNet(alpha=0.001)).fit(X, VALUES),
]
ROWS = st.tuples(*[st.floats(-1e6, 1e6, width=32)] * 4)


@pytest.mark.parametrize("estimator", CLASSIFIERS, ids=str)
@settings(max_examples=60, deadline=None)
@given(row=ROWS)
def test_probabilities_equal_scikit_learns(estimator: Any, row: tuple[float, ...]) -> None:
    expected = estimator.predict_proba([row])[0]
    assert CompiledLinearRows(estimator, SIGNATURE).scores([row])[0] == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("estimator", REGRESSORS, ids=str)
@settings(max_examples=60, deadline=None)
@given(row=ROWS)
def test_values_equal_scikit_learns(estimator: Any, row: tuple[float, ...]) -> None:
    expected = float(estimator.predict([row])[0])
    assert CompiledLinearRows(estimator, SIGNATURE).scores([row])[0] == pytest.approx(
        [expected], rel=1e-9, abs=1e-9
    )


class Louder(LogisticRegression):
    """A subclass may answer otherwise."""


@pytest.mark.parametrize(
    "estimator",
    [
        RandomForestClassifier(2).fit(X, BINARY),
        make_pipeline(PolynomialFeatures(), LogisticRegression(max_iter=9000, tol=0.1)).fit(X / 100, BINARY),
        make_pipeline(MinMaxScaler(clip=True), LogisticRegression()).fit(X, BINARY),
        Louder().fit(X / 100, BINARY),
        Pipeline([("scale", "passthrough"), ("model", LogisticRegression())]).fit(X / 100, BINARY),
    ],
    ids=str,
)
def test_what_is_not_covered_is_refused(estimator: Any) -> None:
    with pytest.raises(NotCompilable):
        CompiledLinearRows(estimator, SIGNATURE)


@pytest.mark.parametrize(
    "field",
    [
        NumberField(name="x0", type="number", nullable=True),
        CategoryField(name="x0", type="category", categories=("a", "b")),
    ],
)
def test_missing_values_and_text_are_left_to_the_library(field: Any) -> None:
    signature = TabularSignature(fields=(field, *SIGNATURE.fields[1:]))
    with pytest.raises(NotCompilable, match="no number"):
        CompiledLinearRows(CLASSIFIERS[0], signature)


def test_many_weights_are_left_to_numpy() -> None:
    wide = RNG.normal(size=(30, 2500))
    signature = TabularSignature(fields=tuple(NumberField(name=f"x{i}", type="number") for i in range(2500)))
    with pytest.raises(NotCompilable, match="quicker in numpy"):
        CompiledLinearRows(Ridge().fit(wide, wide[:, 0]), signature)
