"""The outcome of an examination is a manifest, or a reason that names the user's file."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skops.io import dumps
from xgboost import XGBClassifier

from falcon_wsgi.errors import CandidateInvalid, GoldenMismatch, ManifestInvalid, ModelError
from falcon_wsgi.models.examination import Offer, examine
from falcon_wsgi.models.offer import Expectation
from falcon_wsgi.models.signature import NumberField, TabularSignature

X = np.arange(12.0).reshape(-1, 2)
CLASSES = [0, 0, 0, 1, 1, 1]
SIGNATURE = TabularSignature(fields=tuple(NumberField(name=name, type="number") for name in "ab"))
ROW = {"a": 1.0, "b": 2.0}
RIDGE = make_pipeline(StandardScaler(), Ridge()).fit(X, X[:, 0])


def offered(folder: Path, files: dict[str, bytes], *expected: Expectation, **more: Any) -> Offer:
    for name, contents in files.items():
        (folder / name).write_bytes(contents)
    return Offer(
        name="mine",
        version="1.0.0",
        files=tuple(files),
        called={name: f"my-{name}" for name in files},
        signature=more.get("signature", SIGNATURE),
        labels=more.get("labels"),
        examples=expected or (Expectation(ROW, "example.json"),),
    )


def skops(estimator: Any) -> dict[str, bytes]:
    return {"model.skops": dumps(estimator)}


def boosted(tmp_path: Path) -> dict[str, bytes]:
    scaler = StandardScaler().fit(X)
    booster = XGBClassifier(n_estimators=2, n_jobs=1).fit(scaler.transform(X), CLASSES)
    booster.save_model(tmp_path / "saved.ubj")
    return {"model.ubj": (tmp_path / "saved.ubj").read_bytes(), "transform.skops": dumps(scaler)}


def test_regressor_gives_its_manifest_with_the_answers_of_this_load(tmp_path: Path) -> None:
    manifest, notes = examine(tmp_path, offered(tmp_path, skops(RIDGE)))
    assert notes == []
    assert (manifest.kind, manifest.labels) == ("tabular_regression", ())
    assert manifest.golden[0].input == ROW
    assert manifest.golden[0].prediction == pytest.approx(float(RIDGE.predict([[1.0, 2.0]])[0]), rel=1e-12)


def test_xgboost_file_with_its_transform_answers_as_the_labels(tmp_path: Path) -> None:
    manifest, _ = examine(tmp_path, offered(tmp_path, boosted(tmp_path), labels=("low", "high")))
    assert (manifest.kind, manifest.labels) == ("tabular_classification", ("low", "high"))
    assert set(manifest.files) == {"model.ubj", "transform.skops"}
    assert manifest.golden[0].prediction == "low"


def test_classes_of_an_xgboost_file_are_numbers_without_labels(tmp_path: Path) -> None:
    manifest, _ = examine(tmp_path, offered(tmp_path, boosted(tmp_path)))
    assert manifest.labels == (0, 1)


def test_expected_answers_are_checked_with_their_probabilities(tmp_path: Path) -> None:
    classifier = LogisticRegression().fit(X, CLASSES)
    probabilities = dict(zip("01", classifier.predict_proba([[1.0, 2.0]])[0].tolist(), strict=True))
    good = Expectation(ROW, "example.json: /0", 0, probabilities)
    manifest, _ = examine(tmp_path, offered(tmp_path, skops(classifier), good))
    assert (manifest.kind, manifest.labels) == ("tabular_classification", (0, 1))
    for prediction, given in ((1, None), ("0", None), (0, {"0": 1.0, "1": 0.0}), (0, {"0": 1.0})):
        wrong = Expectation(ROW, "example.json: /0", prediction, given)
        with pytest.raises(GoldenMismatch, match=r"^example\.json: /0: the expected answer is .* answers 0"):
            examine(tmp_path, offered(tmp_path, skops(classifier), wrong))


@pytest.mark.parametrize(
    ("estimator", "reason"),
    [
        (StandardScaler().fit(X), r"^my-model\.skops: StandardScaler does not predict"),
        (OneVsRestClassifier(LogisticRegression()).fit(X, np.eye(6, 2)), "several questions at once"),
    ],
)
def test_what_is_no_model_is_refused(tmp_path: Path, estimator: Any, reason: str) -> None:
    with pytest.raises(ModelError, match=reason):
        examine(tmp_path, offered(tmp_path, skops(estimator)))


def test_file_that_is_no_archive_is_refused_under_the_users_name(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"^my-model\.skops is not a skops archive"):
        examine(tmp_path, offered(tmp_path, {"model.skops": b"no archive"}))


@pytest.mark.parametrize("labels", [("a", "b", "c"), (1, 0)])
def test_labels_that_do_not_fit_are_refused(tmp_path: Path, labels: tuple[Any, ...]) -> None:
    classifier = LogisticRegression().fit(X, CLASSES)
    with pytest.raises(ManifestInvalid, match=r"^--labels: "):
        examine(tmp_path, offered(tmp_path, skops(classifier), labels=labels))
    with pytest.raises(CandidateInvalid, match=r"^--labels: the model is a regressor"):
        examine(tmp_path, offered(tmp_path, skops(RIDGE), labels=("a", "b")))


def test_null_that_the_model_cannot_take_is_refused(tmp_path: Path) -> None:
    fields = tuple(NumberField(name=name, type="number", nullable=True) for name in "ab")
    offer = offered(tmp_path, skops(RIDGE), signature=TabularSignature(fields=fields))
    with pytest.raises(
        CandidateInvalid, match=r"^the signature allows \{'a': None, 'b': 2\.0\}, which the model"
    ):
        examine(tmp_path, offer)


def test_array_for_a_pipeline_that_names_its_columns_is_refused_with_the_remedy(tmp_path: Path) -> None:
    import pandas as pd

    named = make_pipeline(ColumnTransformer([("a", StandardScaler(), ["a"])]), Ridge())
    named.fit(pd.DataFrame(X, columns=["a", "b"]), X[:, 0])
    with pytest.raises(CandidateInvalid, match=r'^example\.json: .*the signature needs "input": "frame"$'):
        examine(tmp_path, offered(tmp_path, skops(named)))
    framed = SIGNATURE.model_copy(update={"input": "frame"})
    assert examine(tmp_path, offered(tmp_path, skops(named), signature=framed))[1] == []


def test_other_version_of_scikit_learn_is_noted_once_and_recorded(tmp_path: Path) -> None:
    aged = io.BytesIO()
    plain = zipfile.ZipFile(io.BytesIO(dumps(RIDGE)))
    with zipfile.ZipFile(aged, "w") as archive:
        for name in plain.namelist():
            content = plain.read(name)
            if name == "schema.json":
                content = content.replace(sklearn.__version__.encode(), b"1.2.0")
            archive.writestr(name, content)
    manifest, notes = examine(tmp_path, offered(tmp_path, {"model.skops": aged.getvalue()}))
    assert len(notes) == 1
    assert notes[0].startswith(f"it was made with scikit-learn 1.2.0, {sklearn.__version__} is installed")
    assert manifest.libraries["scikit-learn"] == "1.2.0"
