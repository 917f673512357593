"""A stored XGBoost model answers exactly as the estimator that it was made of."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xgboost
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from falcon_wsgi.errors import UntrustedModel
from falcon_wsgi.models.boosted import BoostedModel, split
from falcon_wsgi.models.loading import deserialise_booster
from tests.unit.models.fitted_models import TEXTS, VALUES, X, Y

SMALL: dict[str, Any] = {"n_estimators": 4, "max_depth": 3, "n_jobs": 1}
COUNTS = np.arange(60) % 5 + 1.0
HOLES = np.where(np.abs(X) > 1, np.nan, X)
MARKED = np.nan_to_num(HOLES, nan=-999.0)


def classifier(**settings: Any) -> Any:
    return xgboost.XGBClassifier(**(SMALL | settings))


def regressor(**settings: Any) -> Any:
    return xgboost.XGBRegressor(**(SMALL | settings))


@pytest.fixture(autouse=True)
def _quiet() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def stored(estimator: Any) -> BoostedModel:
    parts = split(estimator)
    assert parts is not None
    transform, contents, labels = parts
    return deserialise_booster(contents, transform, labels or (), "model")  # type: ignore[no-any-return]


CASES: dict[str, tuple[Any, Any, Any]] = {
    "binary": (classifier(), X, Y == 1),
    "several classes": (classifier(), X, Y),
    "softmax": (classifier(objective="multi:softmax"), X, Y),
    "missing": (classifier(), HOLES, Y),
    "missing as a number": (classifier(missing=-999.0), MARKED, Y == 1),
    "pruned": (classifier(tree_method="exact", gamma=1.0), X, Y),
    "by leaves": (classifier(grow_policy="lossguide", max_leaves=6), X, Y),
    "dart": (classifier(booster="dart", rate_drop=0.5), X, Y),
    "linear": (classifier(booster="gblinear"), X, Y),
    "linear regressor": (regressor(booster="gblinear"), X, VALUES),
    "forest": (xgboost.XGBRFClassifier(n_estimators=4, max_depth=3, n_jobs=1), X, Y),
    "forest regressor": (xgboost.XGBRFRegressor(n_estimators=4, max_depth=3, n_jobs=1), X, VALUES),
    "trees in parallel": (classifier(num_parallel_tree=2), X, Y),
    "given base": (regressor(base_score=0.3), X, VALUES),
    "squared error": (regressor(), X, VALUES),
    "absolute error": (regressor(objective="reg:absoluteerror"), X, VALUES),
    "huber": (regressor(objective="reg:pseudohubererror"), X, VALUES),
    "logistic": (regressor(objective="reg:logistic"), X, Y == 1),
    "poisson": (regressor(objective="count:poisson"), X, COUNTS),
    "gamma": (regressor(objective="reg:gamma"), X, COUNTS),
    "tweedie": (regressor(objective="reg:tweedie"), X, COUNTS),
    "squared log error": (regressor(objective="reg:squaredlogerror"), X, COUNTS),
    "one leaf": (classifier(gamma=1e9), X, Y == 1),
    "scaled": (make_pipeline(StandardScaler(), classifier()), X, Y),
    "imputed and scaled": (make_pipeline(SimpleImputer(), StandardScaler(), regressor()), HOLES, VALUES),
    "sparse texts": (make_pipeline(TfidfVectorizer(), classifier()), TEXTS, Y),
    "in a pipeline alone": (Pipeline([("model", classifier())]), X, Y),
    "named columns": (classifier(), pd.DataFrame(X, columns=list("abcd")), Y),
}


@pytest.mark.parametrize("name", CASES)
def test_predictions_are_exactly_those_of_the_estimator(name: str) -> None:
    estimator, rows, targets = CASES[name]
    estimator.fit(rows, targets)
    model = stored(estimator)
    for some in (rows, rows[:1]):
        assert np.array_equal(model.predict(some), estimator.predict(some))
        if hasattr(estimator, "predict_proba"):
            assert np.array_equal(model.predict_proba(some), estimator.predict_proba(some))
    assert hasattr(model, "predict_proba") == hasattr(estimator, "predict_proba")
    assert hasattr(model, "classes_") == hasattr(estimator, "predict_proba")


@pytest.mark.parametrize("form", ["ubj", "json"])
def test_early_stopping_is_honoured_in_a_file_of_xgboosts_own(form: str) -> None:
    estimator = classifier(n_estimators=40, early_stopping_rounds=2, learning_rate=0.9)
    estimator.fit(X, Y, eval_set=[(-X, Y)], verbose=False)
    assert estimator.best_iteration + 1 < estimator.get_booster().num_boosted_rounds()
    model = BoostedModel.load(bytes(estimator.get_booster().save_raw(form)), None, None)
    assert np.array_equal(model.predict_proba(X), estimator.predict_proba(X))
    assert np.array_equal(stored(estimator).predict_proba(X), estimator.predict_proba(X))


@pytest.mark.parametrize("labels", [[1, 2, 3], ["low", "middle", "high"]])
def test_labels_stand_for_the_classes(labels: list[Any]) -> None:
    estimator = classifier().fit(X, Y)
    _, contents, _ = split(estimator) or (None, b"", None)
    model = BoostedModel.load(contents, None, labels)
    assert model.classes_.tolist() == labels
    assert model.predict(X).tolist() == [labels[number] for number in estimator.predict(X)]


def test_names_and_numbers_of_features_are_those_of_what_takes_the_rows() -> None:
    frame = pd.DataFrame(X, columns=list("abcd"))
    bare = stored(classifier().fit(frame, Y))
    assert (bare.n_features_in_, bare.feature_names_in_.tolist()) == (4, list("abcd"))
    scaled = stored(make_pipeline(StandardScaler(), classifier()).fit(frame, Y))
    assert (scaled.n_features_in_, scaled.feature_names_in_.tolist()) == (4, list("abcd"))
    assert not hasattr(stored(classifier().fit(X, Y)), "feature_names_in_")


def test_splitting_leaves_the_estimator_alone() -> None:
    estimator = classifier().fit(X, Y)
    before = estimator.get_booster().attributes()
    split(estimator)
    assert estimator.get_booster().attributes() == before


@pytest.mark.parametrize("estimator", [LogisticRegression(), Pipeline([("a", StandardScaler())]), None, 5])
def test_other_estimators_are_not_split(estimator: Any) -> None:
    assert split(estimator) is None


@pytest.mark.parametrize(
    ("estimator", "rows", "targets", "match"),
    [
        (
            regressor(objective="reg:quantileerror", quantile_alpha=0.5),
            X,
            VALUES,
            "'reg:quantileerror' is not",
        ),
        (classifier(objective="binary:hinge"), X, Y == 1, "'binary:hinge' is not"),
        (regressor(objective="survival:cox"), X, COUNTS, "'survival:cox' is not"),
        (regressor(), X, np.c_[VALUES, VALUES], "several targets"),
        (
            classifier(enable_categorical=True),
            pd.DataFrame({"c": pd.Categorical(["u", "v", "w"] * 20), "x": X[:, 0]}),
            Y,
            "OneHotEncoder",
        ),
    ],
)
def test_what_cannot_be_served_is_refused_with_the_remedy(
    estimator: Any, rows: Any, targets: Any, match: str
) -> None:
    with pytest.raises(UntrustedModel, match=match):
        split(estimator.fit(rows, targets))


def test_a_ranker_is_refused() -> None:
    ranker = xgboost.XGBRanker(**SMALL).fit(X, Y, qid=np.repeat([0, 1], 30))
    with pytest.raises(UntrustedModel, match="XGBRanker is not served"):
        split(ranker)


def test_labels_that_do_not_fit_are_refused() -> None:
    _, contents, _ = split(classifier().fit(X, Y)) or (None, b"", None)
    with pytest.raises(UntrustedModel, match="3 classes, but 2 labels"):
        deserialise_booster(contents, None, ("a", "b"), "model")
    _, contents, _ = split(regressor().fit(X, VALUES)) or (None, b"", None)
    with pytest.raises(UntrustedModel, match="is a regressor"):
        deserialise_booster(contents, None, ("a", "b"), "model")


@pytest.mark.parametrize("rounds", ["-1", "99", "many"])
def test_rounds_that_there_are_not_are_refused(rounds: str) -> None:
    booster = classifier().fit(X, Y).get_booster()
    booster.set_attr(falcon_rounds=rounds)
    with pytest.raises(UntrustedModel):
        deserialise_booster(bytes(booster.save_raw("ubj")), None, (), "model")


def test_rows_of_another_width_or_order_are_refused() -> None:
    model = stored(classifier().fit(pd.DataFrame(X, columns=list("abcd")), Y))
    for rows in (X[:, :3], X[0], X[:0], pd.DataFrame(X, columns=list("abdc"))):
        with pytest.raises(ValueError, match=r"rows|columns"):
            model.predict(rows)


FORKING = """
import os, sys
before = "xgboost" in sys.modules
from falcon_wsgi.models import loading
assert not before and "xgboost" not in sys.modules, "imported without need"
from tests.unit.models.fitted_models import X
threads = len(os.listdir("/proc/self/task"))
contents = open(sys.argv[1], "rb").read()
import xgboost
model = loading.deserialise_booster(contents, None, (), "model")
expected = model.predict_proba(X).tolist()
assert len(os.listdir("/proc/self/task")) == threads, "XGBoost has started threads"
child = os.fork()
if child == 0:
    os._exit(0 if model.predict_proba(X).tolist() == expected else 1)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_a_process_may_fork_after_a_prediction(tmp_path: Any) -> None:
    """No thread is started, whatever the number of cores, so a child has all that it needs."""
    path = tmp_path / "model.ubj"
    parts = split(classifier().fit(X, Y))
    assert parts is not None
    path.write_bytes(parts[1])
    environment = {**os.environ, "OMP_NUM_THREADS": "4"}
    ran = subprocess.run(
        [sys.executable, "-c", FORKING, str(path)],
        env=environment,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 0, (ran.stderr.decode()[-1000:], signal.Signals)


def test_both_formats_of_xgboost_are_told_apart() -> None:
    booster = classifier().fit(X, Y).get_booster()
    text = json.dumps(json.loads(booster.save_raw("json")), indent=2).encode()
    for contents in (bytes(booster.save_raw("ubj")), bytes(booster.save_raw("json")), text):
        assert BoostedModel.load(contents, None, None).predict(X).shape == (60,)
