"""XGBoost models with the face of a scikit-learn estimator, from XGBoost's own file formats."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.sparse
import scipy.special
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.pipeline import Pipeline
from sklearn.utils.metaestimators import available_if

from falcon_wsgi.errors import UntrustedModel
from falcon_wsgi.models import booster_format
from falcon_wsgi.models.booster_format import CLASSIFIERS, CheckedBooster
from falcon_wsgi.models.refusal import Refused, need

# Attributes that `split` writes into the booster; XGBoost keeps them with the model.
_MISSING = "falcon_missing"
_ROUNDS = "falcon_rounds"


class BoostedModel(BaseEstimator):  # type: ignore[misc]
    """A booster, and what rows go through before it. Made by `BoostedModel.load`.

    Attributes:
        classes_: of a classifier only: its labels, in the order of its probabilities.
        n_features_in_: columns that `predict` takes.
        feature_names_in_: their names, where the transform or the booster has any.
    """

    def __init__(self, booster: Any, transform: Any, objective: str, rounds: int, missing: float) -> None:
        self.booster = booster
        self.transform = transform
        self.objective = objective
        self.rounds = rounds
        self.missing = missing

    @classmethod
    def load(cls, model: bytes, transform: Any, labels: Sequence[Any] | None) -> BoostedModel:
        """A model from XGBoost's JSON or UBJSON, checked before XGBoost sees it.

        Args:
            transform: a fitted transformer or a pipeline of such, or None.
            labels: what a classifier's classes 0..n-1 stand for; None or empty for those numbers themselves, and for
                a regressor.

        Raises:
            Refused, ValueError, LookupError, TypeError: see `booster_format.check`.
        """
        checked = booster_format.check(model)
        missing = float(checked.attributes.get(_MISSING, "nan"))
        loaded = cls(_booster(checked.contents), transform, checked.objective, _rounds(checked), missing)
        loaded._name_classes(labels, checked.classes)
        loaded._name_features(checked)
        return loaded

    def predict(self, X: Any) -> NDArray[Any]:
        """The label (n,) of each row, or the value (n,)."""
        if self.objective not in CLASSIFIERS:
            return self._raw(X, "value")
        probabilities = self._probabilities(X)
        return self.classes_[probabilities.argmax(axis=1)]  # type: ignore[no-any-return]

    @available_if(lambda model: model.objective in CLASSIFIERS)  # type: ignore[untyped-decorator]
    def predict_proba(self, X: Any) -> NDArray[Any]:
        """float32 of shape (n, classes)."""
        return self._probabilities(X)

    def _probabilities(self, X: Any) -> NDArray[Any]:
        if self.objective == "multi:softmax":
            return scipy.special.softmax(self._raw(X, "margin"), axis=1)  # type: ignore[no-any-return]
        answer = self._raw(X, "value")
        return answer if answer.ndim == 2 else np.vstack((1.0 - answer, answer)).transpose()

    def _raw(self, X: Any, what: str) -> NDArray[Any]:
        rows = _rows(self._transformed(X), self.booster_width)
        if self.linear:  # XGBoost predicts in place with trees only
            from xgboost import DMatrix

            held = DMatrix(rows, missing=self.missing, nthread=1)
            answer = self.booster.predict(held, output_margin=what == "margin", validate_features=False)
        else:
            answer = self.booster.inplace_predict(
                rows,
                iteration_range=(0, self.rounds),
                predict_type=what,
                missing=self.missing,
                validate_features=False,
            )
        return np.asarray(answer)

    def _transformed(self, X: Any) -> Any:
        if self.transform is not None:
            return self.transform.transform(X)
        columns, names = getattr(X, "columns", None), getattr(self, "feature_names_in_", None)
        if columns is not None and names is not None and list(columns) != names.tolist():
            raise ValueError("the columns are not those that the model was trained on, in their order")
        return X

    def _name_classes(self, labels: Sequence[Any] | None, classes: int) -> None:
        given = list(labels or ())
        if self.objective not in CLASSIFIERS:
            need(not given, "it is a regressor, but labels are given")
            return
        need(len(given) in (0, classes), f"it has {classes} classes, but {len(given)} labels are given")
        self.classes_ = np.asarray(given) if given else np.arange(classes)

    def _name_features(self, checked: CheckedBooster) -> None:
        self.booster_width = checked.features
        self.linear = checked.booster == "gblinear"
        if self.transform is None:
            self.n_features_in_ = checked.features
            if checked.feature_names:
                self.feature_names_in_ = np.asarray(checked.feature_names, dtype=object)
            return
        for name in ("n_features_in_", "feature_names_in_"):
            if hasattr(self.transform, name):
                setattr(self, name, getattr(self.transform, name))


def split(estimator: Any) -> tuple[Any, bytes, list[Any] | None] | None:
    """The parts to be stored of a fitted XGBClassifier, XGBRegressor or XGBRF*, bare or as a pipeline's last step.

    Returns:
        The steps before it or None, the booster as UBJSON, and a classifier's labels; None for any other estimator.

    Raises:
        UntrustedModel: it is one of these but cannot be served; the message says why.
    """
    last = estimator.steps[-1][1] if isinstance(estimator, Pipeline) else estimator
    if "xgboost" not in sys.modules:
        return None
    from xgboost import XGBClassifier, XGBModel, XGBRegressor

    if not isinstance(last, XGBModel):
        return None
    if not isinstance(last, XGBClassifier | XGBRegressor):
        raise UntrustedModel(
            f"{type(last).__name__} is not served; XGBClassifier, XGBRegressor and the XGBRF forms of them are"
        )
    contents = _stored(last)
    try:
        booster_format.check(contents)
    except Refused as reason:
        raise UntrustedModel(f"{type(last).__name__} is not served: {reason}") from reason
    labels = last.classes_.tolist() if isinstance(last, XGBClassifier) else None
    return _before(estimator), contents, labels


def _stored(model: Any) -> bytes:
    """A copy of the booster that carries along what only the scikit-learn wrapper knows."""
    booster = model.get_booster().copy()
    booster.set_attr(
        **{_MISSING: repr(float(model.missing)), _ROUNDS: str(model._get_iteration_range(None)[1])}
    )
    return bytes(booster.save_raw("ubj"))


def _before(estimator: Any) -> Any:
    if not isinstance(estimator, Pipeline) or len(estimator.steps) == 1:
        return None
    return estimator.steps[0][1] if len(estimator.steps) == 2 else estimator[:-1]


def _booster(contents: bytes) -> Any:
    """One thread, from the first moment: a process that has had several cannot fork safely (libgomp)."""
    import xgboost

    with xgboost.config_context(nthread=1, verbosity=0):
        booster = xgboost.Booster({"nthread": 1})
        booster.load_model(bytearray(contents))
        booster.set_param({"nthread": 1})
    return booster


def _rounds(checked: CheckedBooster) -> int:
    """Rounds that predict, 0 for all: as the wrapper had it, else up to the best one of early stopping."""
    given = checked.attributes.get(_ROUNDS)
    if given is None:
        best = checked.attributes.get("best_iteration")
        given = "0" if best is None or checked.booster == "gblinear" else str(int(best) + 1)
    rounds = int(given)
    need(0 <= rounds <= checked.rounds, f"it predicts with {rounds} rounds, but has {checked.rounds}")
    return rounds


def _rows(X: Any, width: int) -> Any:
    """float32 of shape (n, width), sparse by rows where X is sparse: what XGBoost reads without a look."""
    if scipy.sparse.issparse(X):
        rows = scipy.sparse.csr_matrix(X, dtype=np.float32)
    else:
        rows = np.ascontiguousarray(X, dtype=np.float32)
    if rows.ndim != 2 or rows.shape[1] != width:
        raise ValueError(f"rows of shape {rows.shape} for a model of {width} features")
    if not math.prod(rows.shape):
        raise ValueError("there are no rows")
    return rows
