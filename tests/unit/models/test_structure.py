"""An estimator whose parts do not fit together is refused before it predicts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import GradientBoostingRegressor, RandomForestClassifier, VotingClassifier
from sklearn.feature_extraction.text import CountVectorizer, HashingVectorizer, TfidfVectorizer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.neighbors import KDTree
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, OrdinalEncoder
from skops.io import dumps, loads

from falcon_wsgi.models import archive, structure
from falcon_wsgi.models.refusal import Refused
from falcon_wsgi.models.trusted_types import TRUSTED
from tests.unit.models import fitted_models


def built(estimator: Any) -> Any:
    """As skops builds it from a file, not checked yet."""
    return loads(archive.audit(dumps(estimator)), trusted=TRUSTED)


def fitted(name: str) -> Any:
    return built(fitted_models.compiled()[name][0])


def refused(estimator: Any, match: str) -> None:
    with pytest.raises(Refused, match=match):
        structure.check(estimator)


def test_fitted_models_hold_together() -> None:
    for name in fitted_models.compiled():
        structure.check(fitted(name))


def test_search_trees_are_planted_anew() -> None:
    expected = fitted_models.compiled()["neighbours in a tree"][0].predict_proba(fitted_models.X)
    model = fitted("neighbours in a tree")
    assert model._tree is None
    structure.check(model)
    assert isinstance(model._tree, KDTree)
    assert np.array_equal(model.predict_proba(fitted_models.X), expected)


def test_every_nested_estimator_keeps_to_one_job_and_is_silent() -> None:
    forests = [RandomForestClassifier(2, n_jobs=-1) for _ in range(2)]
    voting = VotingClassifier([("a", forests[0]), ("b", forests[1])], voting="soft")
    model = CalibratedClassifierCV(voting, cv=2).fit(fitted_models.X, fitted_models.Y)
    for calibrated in model.calibrated_classifiers_:  # set after the fit, so that it starts no processes
        calibrated.estimator.n_jobs = 2
        for inner in calibrated.estimator.estimators_:
            inner.verbose = 2
    model = built(model)
    structure.check(model)
    for calibrated in model.calibrated_classifiers_:
        for inner in calibrated.estimator.estimators_:
            assert (inner.n_jobs, inner.verbose) == (1, 0)


def _unknown_category(model: Any) -> None:
    (feature,) = np.flatnonzero(model._bin_mapper.is_categorical_)
    model._bin_mapper.bin_thresholds_[feature] = np.array([256.0])


CHANGES: list[tuple[str, Callable[[Any], Any], str]] = [
    ("tree", lambda m: setattr(m, "n_features_in_", 3), "another number of features"),
    ("tree", lambda m: setattr(m, "classes_", m.classes_[:2]), "classes"),
    ("tree", lambda m: setattr(m, "tree_", None), "a tree is none"),
    ("forest", lambda m: setattr(m, "n_features_in_", 3), "other features"),
    ("forest", lambda m: m.estimators_.append(LinearRegression()), "a forest holds a LinearRegression"),
    ("forest", lambda m: m.estimators_.clear(), "no trees"),
    (
        "forest",
        lambda m: vars(m).update(_validate_X_predict=np.float32),
        "in the place of a part of the class",
    ),
    ("isolation forest", lambda m: m.estimators_.append(LinearRegression()), "a forest holds"),
    ("boosting", lambda m: setattr(m, "estimators_", m.estimators_[:, :2]), "starts from other outputs"),
    ("boosting", lambda m: setattr(m, "n_features_in_", 5), "other features"),
    ("boosting", lambda m: setattr(m, "init_", LogisticRegression()), "starts from a LogisticRegression"),
    ("boosting", lambda m: m.estimators_.fill(LinearRegression()), "no regression tree"),
    ("histogram boosting", lambda m: setattr(m, "_in_fit", True), "being fitted"),
    ("histogram boosting", lambda m: setattr(m, "n_features_in_", 3), "features do not agree"),
    ("histogram boosting", lambda m: m._predictors.append([LinearRegression()]), "no tree"),
    (
        "histogram boosting",
        lambda m: setattr(m._bin_mapper, "is_categorical_", np.zeros(2, bool)),
        "one by one",
    ),
    (
        "histogram boosting by category",
        _unknown_category,
        "outside 0 to 255",
    ),
    (
        "histogram boosting by category",
        lambda m: setattr(m._predictors[0][0], "raw_left_cat_bitsets", np.zeros((0, 8), np.uint32)),
        "set of categories",
    ),
    (
        "histogram boosting by category",
        lambda m: setattr(m._predictors[0][0], "raw_left_cat_bitsets", np.zeros((9, 7), np.uint32)),
        "wrong shape",
    ),
    ("histogram boosting by category", lambda m: m._preprocessor.transformers_.clear(), "unpack"),
    (
        "histogram boosting by category",
        lambda m: m._preprocessor.transformers_[1][2].fill(False),
        "each feature once",
    ),
    (
        "histogram boosting by category",
        lambda m: setattr(m._preprocessor.transformers_[1][1], "func", np.ravel),
        "changes numbers",
    ),
    (
        "support vectors",
        lambda m: setattr(m, "kernel", "precomputed"),
        "kernel 'precomputed' is not supported",
    ),
    ("support vectors", lambda m: setattr(m, "n_features_in_", 3), "other features"),
    ("support vectors", lambda m: setattr(m, "_intercept_", m._intercept_[:1]), "_intercept_"),
    ("support vectors", lambda m: setattr(m, "_n_support", m._n_support + 1), "_n_support"),
    ("support vectors", lambda m: setattr(m, "_dual_coef_", m._dual_coef_[:, 1:]), "coefficients"),
    ("support vectors", lambda m: setattr(m, "_sparse", True), "sparse"),
    ("support vectors", lambda m: setattr(m, "_effective_probability", True), "calibrated"),
    ("support vectors", lambda m: vars(m).update(_impl="epsilon_svr"), "in the place of a part of the class"),
    ("support vectors regressor", lambda m: setattr(m, "_n_support", m._n_support[:1]), "_n_support"),
    ("neighbours", lambda m: setattr(m, "_y", m._y + 1), "none of the classes"),
    ("neighbours", lambda m: setattr(m, "_fit_X", m._fit_X[:, :2]), "other features"),
    ("neighbours", lambda m: setattr(m, "_fit_X", m._fit_X[1:]), "as many targets"),
    ("neighbours", lambda m: setattr(m, "n_neighbors", 1000), "n_neighbors"),
    ("neighbours", lambda m: setattr(m, "effective_metric_", "mahalanobis"), "metric 'mahalanobis'"),
    ("neighbours", lambda m: setattr(m, "weights", np.exp), "weights"),
    ("one-hot", lambda m: m[0].categories_.pop(), "features"),
    ("one-hot", lambda m: m[0]._n_features_outs.__setitem__(0, 1), "as many as its categories"),
    ("one-hot", lambda m: m[0]._default_to_infrequent_mappings[0].fill(7), "out of range"),
    ("one-hot", lambda m: m[0]._infrequent_indices.__setitem__(0, np.array([9])), "rare category"),
    ("one-hot without the first", lambda m: m._drop_idx_after_grouping.fill(9), "dropped category"),
    ("bins", lambda m: m._encoder.categories_[0].__setitem__(0, 9.0), "not sorted"),
    ("target", lambda m: m.encodings_.pop(), "as many as its encodings"),
    ("polynomial", lambda m: setattr(m, "_n_out_full", 10**6), "_n_out_full"),
    ("polynomial", lambda m: setattr(m, "degree", 10**6), "outside 0 to 64"),
    ("splines", lambda m: m.bsplines_.pop(), "other features"),
    ("texts", lambda m: m[0].vocabulary_.__setitem__("good", 10**6), "out of range"),
    ("texts", lambda m: m[0].vocabulary_.__setitem__("good", 0), "repeated"),
    ("texts", lambda m: setattr(m[0], "input", "filename"), "reads files"),
    ("hashed texts", lambda m: setattr(m[0], "ngram_range", (-(2**31), 1)), "no such lengths"),
    ("texts", lambda m: setattr(m[0], "ngram_range", (2, 1)), "no such lengths"),
    ("hashed texts", lambda m: setattr(m[0], "n_features", 0), "hashing into 0"),
    ("hashed texts", lambda m: setattr(m[0], "input", "file"), "reads files"),
]


@pytest.mark.parametrize(("name", "change", "match"), CHANGES, ids=[f"{n}-{m}" for n, _, m in CHANGES])
def test_what_does_not_fit_together_is_refused(name: str, change: Callable[[Any], Any], match: str) -> None:
    model = fitted(name)
    change(model)
    with pytest.raises((Refused, ValueError), match=match):
        structure.check(model)


def test_splines_with_too_few_knots_are_refused() -> None:
    model = fitted("splines")
    vars(model.bsplines_[0])["_t"] = np.arange(3.0)
    with pytest.raises(ValueError, match=r"[Kk]nots"):
        structure.check(model)


def test_an_unfitted_vectorizer_that_reads_files_is_refused() -> None:
    for kind in (CountVectorizer, TfidfVectorizer, HashingVectorizer):
        refused(kind(input="filename"), "reads files")


def test_an_unfitted_part_is_left_alone() -> None:
    structure.check(ColumnTransformer([("c", OneHotEncoder(), [0]), ("o", OrdinalEncoder(), [1])]))


def test_a_matrix_in_another_form_is_refused() -> None:
    model = LinearRegression().fit([[0.0], [1.0]], [0, 1])
    model.coef_ = sp.coo_matrix(np.eye(1))
    refused(model, "in the form coo")


def test_a_random_state_that_points_outside_of_its_words_is_refused() -> None:
    state = np.random.RandomState(0)
    words = state.get_state(legacy=False)
    words["state"]["pos"] = 10**6
    state.set_state(words)
    model = GradientBoostingRegressor(n_estimators=1, random_state=state)
    refused(model, "random state points at its word 1000000")


def test_a_type_that_is_not_listed_is_refused_by_name() -> None:
    refused([object()], "builtins.object")
    refused(FunctionTransformer(KDTree([[0.0]])), "KDTree")
