"""Predictors: what turns normalised inputs into predictions, and the choice between them."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from math import inf, isfinite
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from falcon_wsgi.errors import ManifestInvalid, PredictionFailed
from falcon_wsgi.models.compiled import CompiledLinearText, NotCompilable
from falcon_wsgi.models.compiled_rows import CompiledLinearRows
from falcon_wsgi.models.compiled_trees import CompiledTrees
from falcon_wsgi.models.estimators import nested
from falcon_wsgi.models.forms import Input
from falcon_wsgi.models.manifest import Manifest
from falcon_wsgi.models.matrix import Matrix, matrix_of
from falcon_wsgi.models.prediction import Label, Prediction, label_text
from falcon_wsgi.models.signature import TextSignature

log = logging.getLogger(__name__)
_new = tuple.__new__

EQUAL_WITHIN = 1e-9
# XGBoost counts in float32, whose last bit is 6e-8 of a probability near 1.
EQUAL_WITHIN_SINGLE = 1e-6

# Classifiers whose decision is not always for the most probable class.
_DECIDE_OTHERWISE = {"SVC", "NuSVC", "FixedThresholdClassifier", "TunedThresholdClassifierCV"}

# What an estimator raises for a value that it cannot work with.
MODEL_FAULTS = (ValueError, TypeError, ArithmeticError, LookupError, AttributeError, RuntimeError)


class Compiled(Protocol):
    """What a model was compiled to.

    Attributes:
        one_by_one: inputs cost as little one at a time as together.
    """

    one_by_one: bool

    def scores(self, inputs: Sequence[Any]) -> list[list[float]]:
        """Each input's class probabilities in the order of the classes; one value where there are none."""


class Predictor(Protocol):
    """Inputs in, one prediction for each out, in order."""

    name: str

    def predict(self, inputs: Sequence[Input]) -> list[Prediction]:
        """Raises PredictionFailed where the model raises."""


class ProbabilityPredictor:
    """A classifier's `predict_proba`, on the whole batch at once."""

    def __init__(self, estimator: Any, matrix: Matrix, labels: Sequence[Label]) -> None:
        self.name = library_of(estimator)
        self._predict_proba = estimator.predict_proba
        self._matrix = matrix
        self._labels = list(labels)
        self._texts = [label_text(label) for label in labels]

    def predict(self, inputs: Sequence[Input]) -> list[Prediction]:
        try:
            rows = self._predict_proba(self._matrix(inputs)).tolist()
            return [most_probable(self._labels, self._texts, row) for row in rows]
        except MODEL_FAULTS as error:
            raise PredictionFailed("the model could not answer this input") from error


class DecidedPredictor(ProbabilityPredictor):
    """Probabilities, and the label that the estimator decides on, which need not be the most probable one."""

    def __init__(self, estimator: Any, matrix: Matrix, labels: Sequence[Label]) -> None:
        super().__init__(estimator, matrix, labels)
        self._decide = estimator.predict
        self._classes = estimator.classes_

    def predict(self, inputs: Sequence[Input]) -> list[Prediction]:
        try:
            matrix = self._matrix(inputs)
            probabilities = self._predict_proba(matrix)
            found = decided(self._decide(matrix), probabilities, self._classes, self._labels)
        except MODEL_FAULTS as error:
            raise PredictionFailed("the model could not answer this input") from error
        if not np.isfinite(probabilities).all():
            raise PredictionFailed("the model's answer is not finite")
        return found


class LabelPredictor:
    """The `predict` of a classifier that gives no probabilities."""

    def __init__(self, estimator: Any, matrix: Matrix, labels: Sequence[Label]) -> None:
        self.name = library_of(estimator)
        self._predict = estimator.predict
        self._matrix = matrix
        self._labels = dict(zip(estimator.classes_.tolist(), labels, strict=True))

    def predict(self, inputs: Sequence[Input]) -> list[Prediction]:
        try:
            return [Prediction(self._labels[label]) for label in self._predict(self._matrix(inputs)).tolist()]
        except MODEL_FAULTS as error:
            raise PredictionFailed("the model could not answer this input") from error


class ValuePredictor:
    """A regressor's `predict`: one finite number for each input."""

    def __init__(self, estimator: Any, matrix: Matrix) -> None:
        self.name = library_of(estimator)
        self._predict = estimator.predict
        self._matrix = matrix

    def predict(self, inputs: Sequence[Input]) -> list[Prediction]:
        try:
            values = self._predict(self._matrix(inputs)).reshape(len(inputs)).tolist()
        except MODEL_FAULTS as error:
            raise PredictionFailed("the model could not answer this input") from error
        if not all(map(isfinite, values)):
            raise PredictionFailed("the model's answer is not finite")
        return [Prediction(float(value)) for value in values]


class CompiledPredictor:
    """Inputs through a compiled form, whose classes are `labels`."""

    name = "compiled"

    def __init__(self, form: Compiled, labels: Sequence[Label]) -> None:
        self.one_by_one = form.one_by_one
        self._scores = form.scores
        self._labels = list(labels)
        self._texts = [label_text(label) for label in labels]

    def predict(self, inputs: Sequence[Input]) -> list[Prediction]:
        try:
            scores = self._scores(inputs)
            if not self._labels:
                return [_value(*each) for each in scores]
            return [most_probable(self._labels, self._texts, each) for each in scores]
        except (ValueError, ArithmeticError, LookupError) as error:
            raise PredictionFailed("the model could not answer this input") from error


def _value(value: float) -> Prediction:
    if not isfinite(value):
        raise ValueError("the value is not finite")
    return Prediction(value)


def library_of(estimator: Any) -> str:
    """The name that /health gives a predictor which calls a library."""
    return "xgboost" if type(estimator).__module__.endswith(".boosted") else "scikit-learn"


def most_probable(labels: Sequence[Label], texts: Sequence[str], probabilities: list[float]) -> Prediction:
    """Of equal ones the first. `texts` are the labels' names.

    Raises:
        ValueError: a probability is not finite.
    """
    confidence = max(probabilities)
    if not isfinite(sum(probabilities)):
        raise ValueError("a probability is not finite")
    # As `Prediction(...)`, in half its time: a named tuple's own constructor is a function in Python.
    return _new(
        Prediction,
        (labels[probabilities.index(confidence)], confidence, dict(zip(texts, probabilities))),  # noqa: B905
    )


def reference(estimator: Any, manifest: Manifest) -> Predictor:
    """The estimator as it is.

    Raises:
        ManifestInvalid: it is none of the manifest's kind, or its classes are not the manifest's labels.
    """
    label = f"{manifest.name}/{manifest.version}"
    matrix = matrix_of(manifest.signature)
    classes = getattr(estimator, "classes_", None)
    if not manifest.classifies:
        if classes is not None or not hasattr(estimator, "predict"):
            raise ManifestInvalid(
                f"{label} is to give a number, but {_what(estimator)} is no fitted regressor"
            )
        return plain(estimator, (), matrix)
    if classes is None or not hasattr(estimator, "predict"):
        raise ManifestInvalid(f"{label} is to classify, but {_what(estimator)} is no fitted classifier")
    if isinstance(classes, list):
        raise ManifestInvalid(f"{label}: models that answer several questions at once are not supported")
    require_labels(labels_of(classes), manifest.labels, label)
    return plain(estimator, manifest.labels, matrix)


def require_labels(classes: Sequence[Label], labels: Sequence[Label], label: str) -> None:
    """Raises ManifestInvalid unless there is a label for each class; the classes themselves stand in their order."""
    if len(classes) != len(labels):
        raise ManifestInvalid(
            f"{label}: its model has {len(classes)} classes, but there are {len(labels)} labels"
        )
    if set(labels) == set(classes) and tuple(labels) != tuple(classes):
        raise ManifestInvalid(
            f"{label}: the labels are the classes of its model in another order; that is: {list(classes)}"
        )


def plain(estimator: Any, labels: Sequence[Label], matrix: Matrix) -> Predictor:
    """The estimator's own methods. `labels` stand for its classes, in their order; a regressor has none."""
    if not labels:
        return ValuePredictor(estimator, matrix)
    if hasattr(estimator, "predict_proba"):
        if any(type(each).__name__ in _DECIDE_OTHERWISE for each in nested(estimator)):
            return DecidedPredictor(estimator, matrix, labels)
        return ProbabilityPredictor(estimator, matrix, labels)
    return LabelPredictor(estimator, matrix, labels)


def labels_of(classes: Any) -> tuple[Label, ...]:
    """`classes_` of an estimator as JSON values. Whole floats, which scikit-learn gives for float y, become int."""
    return tuple(
        int(label) if isinstance(label, float) and label.is_integer() else label for label in classes.tolist()
    )


def decided(
    answered: NDArray[Any], probabilities: NDArray[Any] | None, classes: Any, labels: Sequence[Label]
) -> list[Prediction]:
    """A classifier's own answers: `predict` of shape (n,), and `predict_proba` of shape (n, classes) if it has it."""
    places = {label: place for place, label in enumerate(classes.tolist())}
    texts = [label_text(label) for label in labels]
    chosen = [places[label] for label in answered.tolist()]
    if probabilities is None:
        return [Prediction(labels[place]) for place in chosen]
    return [
        Prediction(labels[place], row[place], dict(zip(texts, row, strict=True)))
        for place, row in zip(chosen, probabilities.tolist(), strict=True)
    ]


def same(left: Prediction, right: Prediction, within: float = EQUAL_WITHIN) -> bool:
    """Equal, but for rounding: `within` in a probability, or in a value, relative to it where it is over 1."""
    if isinstance(left.output, float):
        return bool(abs(left.output - right.output) <= within * max(1.0, abs(right.output)))
    if left.output != right.output or (left.probabilities is None) is not (right.probabilities is None):
        return False
    return left.probabilities is None or _difference(left, right) <= within


def _what(estimator: Any) -> str:
    return f"its file holds a {type(estimator).__name__}, which"


def build(estimator: Any, manifest: Manifest, proof: Sequence[Input]) -> Predictor:
    """The fastest predictor that answers as the estimator does.

    A compiled form is used only where every answer to an input in `proof` differs from the library's by at most
    1e-9 (XGBoost: 1e-6): in each class probability, or in the value, relative to it where it is over 1.

    Raises:
        ManifestInvalid: see `reference`.
    """
    label = f"{manifest.name}/{manifest.version}"
    own = reference(estimator, manifest)
    within = EQUAL_WITHIN if own.name != "xgboost" else EQUAL_WITHIN_SINGLE
    try:
        compiled = CompiledPredictor(_compile(estimator, manifest), manifest.labels)
        difference = _largest_difference(own, compiled, proof)
    except (NotCompilable, PredictionFailed) as reason:
        log.info("model_not_compiled", extra={"model": label, "reason": str(reason)})
        return own
    if not difference <= within:  # NaN fails too
        log.warning("compiled_model_differs", extra={"model": label, "difference": difference})
        return own
    log.info("model_compiled", extra={"model": label, "largest_difference": difference, "inputs": len(proof)})
    return compiled


def _compile(estimator: Any, manifest: Manifest) -> Compiled:
    if isinstance(manifest.signature, TextSignature):
        return CompiledLinearText(estimator)
    try:
        return CompiledLinearRows(estimator, manifest.signature)
    except NotCompilable:
        return CompiledTrees(estimator, manifest.signature)


def _largest_difference(a: Predictor, b: Predictor, inputs: Sequence[Input]) -> float:
    largest = 0.0
    for left, right in zip(a.predict(inputs), b.predict(inputs), strict=True):
        gap = _difference(left, right)
        if not gap <= largest:
            largest = gap
    return largest


def _difference(left: Prediction, right: Prediction) -> float:
    if isinstance(left.output, float):
        return abs(left.output - right.output) / max(1.0, abs(left.output))  # type: ignore[no-any-return]
    if left.probabilities is None or right.probabilities is None:
        return inf
    return max(abs(p - right.probabilities[label]) for label, p in left.probabilities.items())


def slowest_s(predictor: Predictor, inputs: Sequence[Input]) -> float:
    """CPU seconds of one call with `inputs`, the better of two (the first one warms up).

    Not wall time: what is decided by it must not depend on what else the machine does.
    """
    best = inf
    for _ in range(2):
        started = time.thread_time()
        predictor.predict(inputs)
        best = min(best, time.thread_time() - started)
    return best
