"""Tabular models for the protocol's tests: one of mixed fields, one that adds numbers up, one that says yes or no."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LinearRegression, RidgeClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder

from falcon_wsgi.models.adding import Candidate, add
from falcon_wsgi.models.predictor import labels_of
from falcon_wsgi.models.signature import BooleanField, CategoryField, NumberField, TabularSignature
from falcon_wsgi.models.store import ModelStore

PURPOSES = ("boat", "car", "house")
LOAN = TabularSignature(
    input="frame",
    fields=(
        NumberField(type="number", name="amount", minimum=0, maximum=1_000_000),
        NumberField(type="integer", name="months", minimum=1, maximum=480),
        BooleanField(type="boolean", name="insured"),
        CategoryField(type="category", name="purpose", categories=PURPOSES),
        NumberField(type="number", name="income", nullable=True),
    ),
)


def write_models(store: Path) -> None:
    """`loan` (classes no and yes, probabilities), `sum` (a + b) and `sign` (true or false, no probabilities)."""
    _write_loan(store)
    _write_sum(store)
    _write_sign(store)


def _write_loan(store: Path) -> None:
    random = np.random.default_rng(7)
    rows = pd.DataFrame(
        {
            "amount": random.uniform(0, 100_000, 300),
            "months": random.integers(1, 480, 300),
            "insured": random.random(300) < 0.5,
            "purpose": pd.Series(random.choice(PURPOSES, 300), dtype=object),
            "income": np.where(random.random(300) < 0.2, np.nan, random.uniform(0, 9_000, 300)),
        }
    )
    good = (rows["income"].fillna(3_000) * rows["months"] > rows["amount"]) | (rows["purpose"] == "house")
    columns = ColumnTransformer(
        [("purpose", OneHotEncoder(sparse_output=False), ["purpose"])], remainder="passthrough"
    )
    model = Pipeline([("columns", columns), ("classifier", HistGradientBoostingClassifier(max_iter=10))])
    model.fit(rows, np.where(good, "yes", "no"))
    golden = {"amount": 5000.0, "months": 24, "insured": True, "purpose": "car", "income": None}
    _add(store, "loan", "tabular_classification", model, LOAN, ({**golden, "income": 2500.0}, golden))


def _write_sum(store: Path) -> None:
    numbers = np.random.default_rng(8).uniform(-100, 100, (50, 2))
    fields = tuple(NumberField(type="number", name=name) for name in ("a", "b"))
    model = LinearRegression().fit(numbers, numbers.sum(axis=1))
    _add(store, "sum", "tabular_regression", model, TabularSignature(fields=fields), ({"a": 1, "b": 2},))


def _write_sign(store: Path) -> None:
    numbers = np.random.default_rng(9).uniform(-100, 100, (50, 1))
    signature = TabularSignature(fields=(NumberField(type="number", name="x"),))
    model = RidgeClassifier().fit(numbers, numbers[:, 0] > 0)
    _add(store, "sign", "tabular_classification", model, signature, ({"x": 5}, {"x": -5}))


def _add(
    store: Path, name: str, kind: str, model: object, signature: TabularSignature, golden: tuple
) -> None:
    labels = labels_of(model.classes_) if kind.endswith("classification") else ()
    add(
        ModelStore(store),
        name,
        "1.0.0",
        Candidate(
            kind=kind,
            estimator=model,
            signature=signature,
            labels=labels,
            golden=golden,
            metrics={},
            data={},
        ),
    )
