"""A user's fitted estimator becomes a stored version, or is refused with a reason."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.cluster import KMeans
from sklearn.compose import ColumnTransformer
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import IsolationForest
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.model_selection import FixedThresholdClassifier
from sklearn.multiclass import OneVsRestClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler
from sklearn.svm import LinearSVC
from threadpoolctl import threadpool_limits

import falcon_wsgi
from falcon_wsgi import add_model
from falcon_wsgi.errors import (
    CandidateInvalid,
    ManifestInvalid,
    ModelError,
    ModelVersionExists,
    SignatureChanged,
)
from falcon_wsgi.models.signature import NumberField, TabularSignature
from falcon_wsgi.models.store import ModelStore

ROWS = pd.DataFrame(
    {"a": np.arange(12.0), "b": np.arange(12.0)[::-1] ** 2, "city": ["Rome", "Oslo", "Bern"] * 4}
)
NUMBERS = ROWS[["a", "b"]]
VALUE = ROWS["a"] * 2 + ROWS["b"]
ANSWER = (ROWS["a"] > 5).astype(int)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with threadpool_limits(1):
        yield


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "store")


def linear() -> Any:
    return LinearRegression().fit(NUMBERS, VALUE)


def classifier(answers: Any = ANSWER) -> Any:
    return LogisticRegression().fit(NUMBERS, answers)


def by_name(step: Any = None) -> Any:
    return make_pipeline(
        ColumnTransformer([("city", step or OneHotEncoder(), ["city"]), ("rest", "passthrough", ["a"])]),
        Ridge(),
    ).fit(ROWS[["a", "city"]], VALUE)


def add(store: ModelStore, estimator: Any, given: Any = NUMBERS, **more: Any) -> Any:
    return add_model("mine", estimator, given, store=store.root, **more)


def test_importing_the_package_stays_cheap() -> None:
    script = (
        "import sys, falcon_wsgi; print({'sklearn', 'pydantic', 'pandas'} & set(sys.modules) or 'nothing')"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "nothing\n"


def test_package_has_no_other_lazy_attribute() -> None:
    with pytest.raises(AttributeError, match="no attribute 'add_modle'"):
        _ = falcon_wsgi.add_modle


def test_store_is_that_of_the_settings_unless_it_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MODEL_STORE", str(tmp_path / "from-settings"))
    add_model("mine", linear(), NUMBERS)
    assert ModelStore(tmp_path / "from-settings").versions("mine") == ["1.0.0"]


def test_stored_version_answers_as_the_estimator(store: ModelStore) -> None:
    estimator = by_name()
    add(store, estimator, ROWS)
    served = store.load("mine")
    row = served.form.validate({"city": "Oslo", "a": 3.5})
    own = estimator.predict(pd.DataFrame({"a": [3.5], "city": ["Oslo"]}))[0]
    assert served.predictor.predict([row])[0].output == pytest.approx(own, rel=1e-12)


def test_numbers_are_served_as_arrays_where_the_answers_are_the_same(store: ModelStore) -> None:
    assert add(store, linear()).signature.input == "array"
    named = make_pipeline(ColumnTransformer([("a", StandardScaler(), ["a"])]), Ridge()).fit(NUMBERS, VALUE)
    assert add(store, named).signature.input == "frame"


def test_first_version_is_served_and_the_next_ones_wait_for_their_promotion(store: ModelStore) -> None:
    assert add(store, linear()).version == "1.0.0"
    assert store.current("mine") == "1.0.0"
    assert add(store, Ridge().fit(NUMBERS, VALUE)).version == "1.1.0"
    assert store.current("mine") == "1.0.0"
    assert add(store, Ridge(2).fit(NUMBERS, VALUE), version="2.0.0", promote=True).version == "2.0.0"
    assert store.current("mine") == "2.0.0"


def test_version_that_is_there_is_refused(store: ModelStore) -> None:
    add(store, linear(), version="1.0.0")
    with pytest.raises(ModelVersionExists, match=r"^mine 1\.0\.0 is there already"):
        add(store, linear(), version="1.0.0")


def test_promotion_of_other_inputs_is_refused_but_the_version_is_stored(store: ModelStore) -> None:
    add(store, linear())
    with pytest.raises(SignatureChanged, match=r"^mine 1\.1\.0 is stored, but not promoted: "):
        add(store, by_name(), ROWS, promote=True)
    assert store.versions("mine") == ["1.0.0", "1.1.0"]
    assert store.current("mine") == "1.0.0"


@pytest.mark.parametrize(
    ("answers", "labels"),
    [
        (ANSWER, (0, 1)),
        (ANSWER.astype(float), (0, 1)),
        (ANSWER.astype(bool), (False, True)),
        (ANSWER.map({0: "no", 1: "yes"}), ("no", "yes")),
    ],
)
def test_labels_are_the_classes(store: ModelStore, answers: Any, labels: tuple[Any, ...]) -> None:
    manifest = add(store, classifier(answers))
    assert manifest.labels == labels
    assert {example.prediction for example in manifest.golden} == set(labels)


@pytest.mark.parametrize("wished", [["no", "yes"], {1: "yes", 0: "no"}])
def test_classes_are_answered_as_the_labels_wished_for(store: ModelStore, wished: Any) -> None:
    assert add(store, classifier(), labels=wished).labels == ("no", "yes")
    served = store.load("mine")
    answer = served.predictor.predict([served.form.validate({"a": 11, "b": 0})])[0]
    assert answer.output == "yes"
    assert answer.probabilities is not None
    assert answer.probabilities["yes"] == pytest.approx(classifier().predict_proba(NUMBERS)[11, 1])


@pytest.mark.parametrize(
    ("wished", "reason"),
    [
        (["no"], "2 classes, but there are 1 labels"),
        ([1, 0], "in another order"),
        ({0: "no"}, "an entry for each class"),
    ],
)
def test_labels_that_do_not_fit_are_refused(store: ModelStore, wished: Any, reason: str) -> None:
    with pytest.raises((CandidateInvalid, ManifestInvalid), match=reason):
        add(store, classifier(), labels=wished)


def test_answer_is_the_estimators_decision_not_the_most_probable_class(store: ModelStore) -> None:
    strict = FixedThresholdClassifier(GaussianNB(), threshold=0.9999999).fit(NUMBERS, ANSWER)
    assert (strict.predict(NUMBERS) != strict.predict_proba(NUMBERS).argmax(axis=1)).any()
    add(store, strict)
    served = store.load("mine")
    rows = [served.form.validate(row) for row in NUMBERS.to_dict("records")]
    answers = served.predictor.predict(rows)
    assert [answer.output for answer in answers] == strict.predict(NUMBERS).tolist()
    assert [answer.confidence for answer in answers] == [
        answer.probabilities[str(answer.output)] for answer in answers if answer.probabilities
    ]


def test_classifier_without_probabilities_answers_its_label(store: ModelStore) -> None:
    manifest = add(store, make_pipeline(StandardScaler(), LinearSVC()).fit(NUMBERS, ANSWER))
    assert all(example.probabilities is None for example in manifest.golden)


def test_calibrated_classifier_is_asked_with_arrays_and_does_not_warn(store: ModelStore) -> None:
    calibrated = CalibratedClassifierCV(LinearSVC(), cv=2).fit(NUMBERS, ANSWER)
    assert add(store, calibrated).signature.input == "array"
    store.load("mine")  # a warning is an error here


def test_golden_examples_hold_one_with_a_missing_value(store: ModelStore) -> None:
    rows = ROWS[["a", "city"]].copy()
    rows.loc[7, "city"] = None
    manifest = add(store, by_name().fit(rows, VALUE), rows)
    assert manifest.golden[0].input == {"a": 7.0, "city": None}


def test_explicit_signature_is_taken_as_it_is(store: ModelStore) -> None:
    signature = {
        "type": "tabular",
        "fields": [{"name": n, "type": "number", "minimum": 0} for n in ("p", "q")],
    }
    manifest = add(
        store, LinearRegression().fit(NUMBERS.to_numpy(), VALUE), NUMBERS.to_numpy(), signature=signature
    )
    assert isinstance(manifest.signature, TabularSignature)
    assert manifest.signature.fields[0] == NumberField(name="p", type="number", minimum=0)


def test_metrics_and_data_are_kept(store: ModelStore) -> None:
    manifest = add(store, linear(), metrics={"r2": 1.0}, data={"name": "made up"})
    assert (manifest.metrics, manifest.data) == ({"r2": 1.0}, {"name": "made up"})


class Own(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """An estimator of a user's own code."""

    def fit(self, X: Any, y: Any) -> Own:
        self.mean_ = float(np.mean(y))
        return self

    def predict(self, X: Any) -> Any:
        return np.full(len(X), self.mean_)


@pytest.mark.parametrize(
    ("estimator", "reason"),
    [
        (KMeans(2, n_init=1).fit(NUMBERS), "KMeans is neither a classifier nor a regressor"),
        (IsolationForest(n_estimators=2).fit(NUMBERS), "IsolationForest is neither"),
        (StandardScaler().fit(NUMBERS), "StandardScaler is neither"),
        (object(), "object is neither"),
        (LinearRegression(), "LinearRegression is not fitted"),
        (LinearRegression().fit(NUMBERS, NUMBERS), "several questions at once"),
        (OneVsRestClassifier(GaussianNB()).fit(NUMBERS, np.c_[ANSWER, 1 - ANSWER]), "several questions"),
        (DummyClassifier().fit(NUMBERS, np.zeros(12)), "one class only"),
        (Own().fit(NUMBERS, VALUE), "a file may not bring code of its own along"),
    ],
)
def test_what_cannot_be_served_is_refused_and_nothing_is_stored(
    store: ModelStore, estimator: Any, reason: str
) -> None:
    with pytest.raises(ModelError, match=reason) as refused:
        add(store, estimator)
    assert "\n" not in str(refused.value)
    assert store.names() == []


@pytest.mark.parametrize("name", ["Mine", "", "-mine", "a/b", "..", "x" * 64])
def test_name_that_cannot_stand_in_a_path_is_refused(store: ModelStore, name: str) -> None:
    with pytest.raises(CandidateInvalid, match="no name for a model"):
        add_model(name, linear(), NUMBERS, store=store.root)


def test_version_that_is_no_version_is_refused(store: ModelStore) -> None:
    with pytest.raises(CandidateInvalid, match="'v1' is no version"):
        add(store, linear(), version="v1")


def test_examples_of_another_shape_are_refused_with_the_estimators_own_words(store: ModelStore) -> None:
    with pytest.raises(CandidateInvalid, match="cannot answer the examples: ValueError: X has 3 features"):
        add(store, LinearRegression().fit(NUMBERS.to_numpy(), VALUE), np.zeros((2, 3)))


def test_signature_that_allows_what_the_model_cannot_answer_is_refused(store: ModelStore) -> None:
    with pytest.raises(CandidateInvalid, match=r"cannot answer \(ValueError: Found unknown categories"):
        add(store, by_name(), ROWS, categories={"city": None})
    with pytest.raises(CandidateInvalid, match=r"signature allows \{'a': None.*narrow the field"):
        add(store, linear(), nullable=["a"])


def test_field_whose_far_ends_cannot_be_answered_gives_a_warning(store: ModelStore) -> None:
    small = NUMBERS.to_numpy() / 100
    growing = make_pipeline(FunctionTransformer(np.expm1), LinearRegression()).fit(small, VALUE)
    with pytest.warns(
        UserWarning, match=r"^mine: the signature allows .* a request with one ends with status 500"
    ):
        add(store, growing, small)
    add(store, growing, small, bounds="examples")


def test_texts_with_a_signature_for_rows_are_refused(store: ModelStore) -> None:
    with pytest.raises(CandidateInvalid, match="signature is of type text, the examples are not"):
        add(store, linear(), signature={"type": "text"})
    with pytest.raises(CandidateInvalid, match=r"^signature: /fields: Field required"):
        add(store, linear(), signature={"type": "tabular"})
