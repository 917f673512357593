"""A regressor whose signature has every kind of field."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder

from falcon_wsgi.models.adding import Candidate, add
from falcon_wsgi.models.signature import (
    BooleanField,
    CategoryField,
    NumberField,
    StringField,
    TabularSignature,
)
from falcon_wsgi.models.store import ModelStore

NAME = "rent"
SIGNATURE = TabularSignature(
    input="frame",
    fields=(
        NumberField(name="area", type="number", minimum=1, nullable=True, description="Square metres."),
        NumberField(name="rooms", type="integer", minimum=1, maximum=20),
        BooleanField(name="garden", type="boolean"),
        CategoryField(name="kind", type="category", categories=("flat", "house"), nullable=True),
        CategoryField(name="floor", type="category", categories=(0, 1, 2)),
        StringField(name="street", type="string", max_length=40),
    ),
)
ROWS = (
    {"area": 50, "rooms": 2, "garden": False, "kind": "flat", "floor": 1, "street": "Elm Street"},
    {"area": 120.5, "rooms": 5, "garden": True, "kind": "house", "floor": 0, "street": "Oak Street"},
    {"rooms": 3, "garden": False, "floor": 2, "street": ""},
)


def write(store: Path) -> None:
    columns = list(SIGNATURE.names)
    frame = pd.DataFrame([{name: row.get(name) for name in columns} for row in ROWS * 5])
    frame["kind"] = frame["kind"].astype(object)
    words = OneHotEncoder(handle_unknown="ignore")
    prepare = ColumnTransformer(
        [
            ("words", words, ["kind", "floor", "street"]),
            ("numbers", SimpleImputer(), ["area", "rooms", "garden"]),
        ]
    )
    estimator = Pipeline([("prepare", prepare), ("regress", LinearRegression())])
    estimator.fit(frame, [500, 900, 650] * 5)
    candidate = Candidate("tabular_regression", estimator, SIGNATURE, (), ROWS, {}, {})
    add(ModelStore(store), NAME, "1.0.0", candidate)
