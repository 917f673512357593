"""Predictors: what turns normalised inputs into predictions, and the choice between them."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Sequence
from typing import Any, Protocol

from falcon_wsgi.errors import PredictionFailed
from falcon_wsgi.models.compiled import CompiledLinearText, NotCompilable
from falcon_wsgi.models.prediction import Prediction

log = logging.getLogger(__name__)

EQUAL_WITHIN = 1e-9


class Predictor(Protocol):
    """Inputs in, one prediction for each out, in order."""

    name: str

    def predict(self, inputs: Sequence[str]) -> list[Prediction]:
        """Raises PredictionFailed where the model raises."""


class EstimatorPredictor:
    """The estimator's own `predict_proba`, on the whole batch at once."""

    name = "scikit-learn"

    def __init__(self, estimator: Any) -> None:
        self._estimator = estimator
        self._labels = [str(label) for label in estimator.classes_.tolist()]

    def predict(self, inputs: Sequence[str]) -> list[Prediction]:
        try:
            rows = self._estimator.predict_proba(list(inputs)).tolist()
        except (ValueError, TypeError, ArithmeticError, LookupError, AttributeError, RuntimeError) as error:
            raise PredictionFailed("the model could not answer this input") from error
        return [most_probable(self._labels, row) for row in rows]


class CompiledPredictor:
    """One text after the other through the compiled form."""

    name = "compiled"

    def __init__(self, compiled: CompiledLinearText) -> None:
        self._probabilities = compiled.probabilities
        self._labels = [str(label) for label in compiled.classes]

    def predict(self, inputs: Sequence[str]) -> list[Prediction]:
        try:
            return [most_probable(self._labels, self._probabilities(text)) for text in inputs]
        except (ValueError, ArithmeticError, LookupError) as error:
            raise PredictionFailed("the model could not answer this input") from error


def most_probable(labels: list[str], probabilities: list[float]) -> Prediction:
    confidence = max(probabilities)
    return Prediction(
        output=labels[probabilities.index(confidence)],
        confidence=confidence,
        probabilities=dict(zip(labels, probabilities, strict=True)),
    )


def build(estimator: Any, label: str, proof: Sequence[str]) -> Predictor:
    """The fastest predictor that answers as the estimator does.

    The compiled form is used only where every class probability of every text in `proof` differs from
    scikit-learn's by at most 1e-9.
    """
    reference = EstimatorPredictor(estimator)
    try:
        compiled = CompiledPredictor(CompiledLinearText(estimator))
        difference = _largest_difference(reference, compiled, proof)
    except (NotCompilable, PredictionFailed) as reason:
        log.info("model_not_compiled", extra={"model": label, "reason": str(reason)})
        return reference
    if not difference <= EQUAL_WITHIN:  # NaN fails too
        log.warning("compiled_model_differs", extra={"model": label, "difference": difference})
        return reference
    log.info("model_compiled", extra={"model": label, "largest_difference": difference, "texts": len(proof)})
    return compiled


def _largest_difference(a: Predictor, b: Predictor, texts: Sequence[str]) -> float:
    largest = 0.0
    for left, right in zip(a.predict(texts), b.predict(texts), strict=True):
        if left.probabilities is None or right.probabilities is None:
            return math.inf
        for key, value in left.probabilities.items():
            gap = abs(value - right.probabilities[key])
            if not gap <= largest:
                largest = gap
    return largest


def slowest_s(predictor: Predictor, input_: str) -> float:
    """Seconds that one prediction of `input_` takes, the better of two runs (the first one warms up)."""
    best = math.inf
    for _ in range(2):
        started = time.perf_counter()
        predictor.predict([input_])
        best = min(best, time.perf_counter() - started)
    return best
