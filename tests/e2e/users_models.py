"""Models as users have them: fitted with scikit-learn or XGBoost, on frames, arrays and texts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import GradientBoostingRegressor, RandomForestClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.svm import LinearSVC
from xgboost import XGBRegressor

ROWS = 40
ASKED = 6


@dataclass(frozen=True)
class Users:
    """A fitted estimator, what it was fitted on, and what the user says when it is added."""

    estimator: Any
    examples: Any
    options: dict[str, Any] = field(default_factory=dict)

    def asked(self) -> tuple[list[Any], Any]:
        """Some of the examples as JSON, and as the estimator takes them."""
        if isinstance(self.examples, list):
            return self.examples[:ASKED], self.examples[:ASKED]
        if isinstance(self.examples, np.ndarray):
            names = self.options.get("field_names", [f"x{i}" for i in range(self.examples.shape[1])])
            rows = self.examples[:ASKED]
            return [dict(zip(names, row, strict=True)) for row in rows.tolist()], rows
        frame = self.examples.iloc[:ASKED]
        return [
            {name: None if pd.isna(value) else value for name, value in row.items()}
            for row in frame.to_dict("records")
        ], frame


def _frame() -> pd.DataFrame:
    draw = np.random.default_rng(3)
    frame = pd.DataFrame(
        {
            "age": draw.integers(18, 80, ROWS),
            "income": draw.normal(50, 10, ROWS),
            "city": draw.choice(["Berlin", "Paris", "Rome"], ROWS),
            "member": draw.random(ROWS) < 0.5,
        }
    )
    frame.loc[1::4, "income"] = np.nan
    frame.loc[2::5, "city"] = np.nan
    return frame


FRAME = _frame()
NUMBERS = np.random.default_rng(4).normal(size=(ROWS, 3))
VALUES = NUMBERS @ [1.0, -2.0, 0.5] + 3
CLASSES = (VALUES > 3).astype(int)
TEXTS = ["good value", "awful, never again", "fine", "great   and good", "not bad", "naïve café"] * 4
STARS = [4.0, 1.0, 3.0, 5.0, 3.5, 2.0] * 4


def _price() -> Users:
    """The usual pipeline: categories and missing values, named columns, gradient boosting."""
    columns = ColumnTransformer(
        [
            ("city", make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder()), ["city"]),
            ("numbers", make_pipeline(SimpleImputer(), StandardScaler()), ["age", "income"]),
            ("rest", "passthrough", ["member"]),
        ]
    )
    pipeline = make_pipeline(columns, GradientBoostingRegressor(n_estimators=20, random_state=0))
    return Users(pipeline.fit(FRAME, FRAME["age"] * 2.0), FRAME, {"bounds": {"age": (0, 120)}})


def _named(*names: str) -> dict[str, Any]:
    return {"field_names": list(names)}


def _classifier(estimator: Any, answers: Any, *names: str) -> Users:
    return Users(estimator.fit(NUMBERS, answers), NUMBERS, _named(*names))


MODELS: dict[str, Callable[[], Users]] = {
    "price": _price,
    "forest": lambda: _classifier(RandomForestClassifier(5, random_state=0), CLASSES, "f1", "f2", "f3"),
    "margin": lambda: _classifier(
        make_pipeline(StandardScaler(), LinearSVC()), np.where(CLASSES, "spam", "ham"), "m1", "m2", "m3"
    ),
    "answers-in-words": lambda: _classifier(
        LogisticRegression(), np.where(CLASSES, "yes", "no"), "w1", "w2", "w3"
    ),
    "answers-yes-or-no": lambda: _classifier(GaussianNB(), CLASSES.astype(bool), "b1", "b2", "b3"),
    "answers-in-numbers": lambda: _classifier(LogisticRegression(), CLASSES + 7, "n1", "n2", "n3"),
    "reviews": lambda: Users(make_pipeline(TfidfVectorizer(), Ridge()).fit(TEXTS, STARS), TEXTS),
    "near": lambda: Users(KNeighborsRegressor(3).fit(NUMBERS, VALUES), NUMBERS, _named("x", "y", "z")),
    "twin": lambda: Users(Ridge().fit(NUMBERS, VALUES), NUMBERS, _named("x", "y", "z")),
    "boosted": lambda: Users(
        XGBRegressor(n_estimators=10, n_jobs=1).fit(FRAME[["age", "income"]], FRAME["age"]),
        FRAME[["age", "income"]],
    ),
}
