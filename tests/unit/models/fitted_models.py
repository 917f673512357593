"""Small fitted models, each with rows to predict, for the tests of loading."""

from __future__ import annotations

import functools
import warnings
from typing import Any

import numpy as np
import scipy.sparse as sp
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import (
    BaggingClassifier,
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    IsolationForest,
    RandomForestClassifier,
)
from sklearn.feature_extraction.text import HashingVectorizer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import (
    KBinsDiscretizer,
    OneHotEncoder,
    PolynomialFeatures,
    SplineTransformer,
    TargetEncoder,
)
from sklearn.svm import SVC, SVR, NuSVC
from sklearn.tree import DecisionTreeClassifier

_CHANCE = np.random.default_rng(7)
X = _CHANCE.normal(size=(60, 4))
Y = np.arange(60) % 3
VALUES = X[:, 0] * 2 + X[:, 1]
SPARSE = sp.csr_matrix(np.where(np.abs(X) > 0.8, np.abs(X), 0.0))
CATEGORIES = np.array([["a", "x"], ["b", "y"], ["a", "z"], ["c", "x"]] * 15, dtype=object)
TEXTS = [f"word{i % 11} common word{i % 5} good" for i in range(60)]
CODED = np.column_stack([X[:, :2], np.arange(60) % 4])

Fitted = dict[str, tuple[Any, Any]]


@functools.cache
def compiled() -> Fitted:
    """By name: an estimator whose prediction goes through compiled code, and rows for it."""
    fitted: Fitted = {}

    def fit(name: str, estimator: Any, rows: Any, targets: Any) -> None:
        fitted[name] = (estimator.fit(rows, targets), rows[:20])

    fit("tree", DecisionTreeClassifier(max_depth=4), X, Y)
    fit("forest", RandomForestClassifier(3), X, Y)
    fit("extra trees", ExtraTreesRegressor(2), X, VALUES)
    fit("isolation forest", IsolationForest(n_estimators=2), X, None)
    fit("bagging", BaggingClassifier(n_estimators=2, max_features=3), X, Y)
    fit("boosting", GradientBoostingClassifier(n_estimators=2), X, Y)
    fit("boosting regressor", GradientBoostingRegressor(n_estimators=2), X, VALUES)
    fit("histogram boosting", HistGradientBoostingClassifier(max_iter=2, min_samples_leaf=4), X, Y)
    by_category = HistGradientBoostingRegressor(max_iter=2, min_samples_leaf=4, categorical_features=[2])
    fit("histogram boosting by category", by_category, CODED, VALUES + 9 * (CODED[:, 2] % 2))
    fit("neighbours", KNeighborsClassifier(3, algorithm="brute"), X, Y)
    fit("neighbours in a tree", KNeighborsClassifier(3, algorithm="kd_tree"), X, Y)
    fit("neighbours in a ball tree", KNeighborsRegressor(3, algorithm="ball_tree"), X, VALUES)
    fit("sparse neighbours", KNeighborsClassifier(3), SPARSE, Y)
    fit("support vectors", SVC(), X, Y)
    fit("support vectors nu", NuSVC(nu=0.3, kernel="poly"), X, Y)
    fit("support vectors regressor", SVR(), X, VALUES)
    fit("sparse support vectors", SVC(), SPARSE, Y)
    fit("one-hot", make_pipeline(OneHotEncoder(min_frequency=20), LogisticRegression()), CATEGORIES, Y)
    fit("one-hot without the first", OneHotEncoder(drop="first", sparse_output=False), CATEGORIES, None)
    fit("target", TargetEncoder(), CATEGORIES, Y)
    fit("bins", KBinsDiscretizer(3, quantile_method="averaged_inverted_cdf"), X, None)
    fit("polynomial", PolynomialFeatures(2), X, None)
    fit("splines", SplineTransformer(), X, None)
    fit("texts", make_pipeline(TfidfVectorizer(), LogisticRegression()), TEXTS, Y)
    fit("hashed texts", make_pipeline(HashingVectorizer(n_features=32), LogisticRegression()), TEXTS, Y)
    columns = ColumnTransformer([("c", OneHotEncoder(), [0]), ("t", TargetEncoder(), [1])])
    fit("columns", Pipeline([("columns", columns), ("forest", RandomForestClassifier(2))]), CATEGORIES, Y)
    return fitted


@functools.cache
def boosters() -> dict[str, tuple[bytes, list[Any] | None, Any]]:
    """By name: XGBoost's file, the labels, rows."""
    import xgboost

    found = {}
    settings: dict[str, Any] = {"n_estimators": 3, "max_depth": 3, "n_jobs": 1}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        models = {
            "xgboost": xgboost.XGBClassifier(**settings).fit(X, Y),
            "xgboost binary": xgboost.XGBClassifier(**settings).fit(X, Y == 1),
            "xgboost regressor": xgboost.XGBRegressor(**settings).fit(X, VALUES),
            "xgboost dart": xgboost.XGBClassifier(booster="dart", **settings).fit(X, Y),
            "xgboost linear": xgboost.XGBRegressor(booster="gblinear", n_estimators=2, n_jobs=1).fit(
                X, VALUES
            ),
        }
    for name, model in models.items():
        labels = model.classes_.tolist() if hasattr(model, "classes_") else None
        for form in ("ubj", "json"):
            found[f"{name} {form}"] = (bytes(model.get_booster().save_raw(form)), labels, X[:20])
    return found
