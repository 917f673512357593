"""A model's answers to many inputs at once, as arrays."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np

from falcon_wsgi.errors import PredictionFailed
from falcon_wsgi.models.forms import Input
from falcon_wsgi.models.manifest import Manifest
from falcon_wsgi.models.matrix import Matrix
from falcon_wsgi.models.prediction import Prediction, label_text
from falcon_wsgi.models.predictor import (
    MODEL_FAULTS,
    DecidedPredictor,
    Predictor,
    ProbabilityPredictor,
    reference,
)

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True, slots=True)
class Answers:
    """Of n inputs.

    Attributes:
        outputs: indexes of a classifier's labels (int64), or a regressor's values (float64); shape (n,).
        probabilities: of each label, shape (n, labels); None where the model gives none.
        failed: where the model gave no usable answer; the other arrays mean nothing there. Shape (n,), bool.
    """

    outputs: Array
    probabilities: Array | None
    failed: Array


Ask = Callable[[Any], Answers]


def asking(estimator: Any, manifest: Manifest, matrix: Matrix) -> Ask:
    """What asks the estimator itself, with the whole batch in one call. Raises one of `MODEL_FAULTS`."""
    if not manifest.labels:
        return lambda inputs: _values(estimator.predict(matrix(inputs)), len(inputs))
    served = reference(estimator, manifest)
    places = {label: place for place, label in enumerate(estimator.classes_.tolist())}
    if isinstance(served, DecidedPredictor):
        return lambda inputs: _decided(estimator, matrix(inputs), places)
    if isinstance(served, ProbabilityPredictor):
        return lambda inputs: _probabilities(estimator.predict_proba(matrix(inputs)))
    return lambda inputs: _labels(estimator.predict(matrix(inputs)), places)


def asking_predictor(predictor: Predictor, manifest: Manifest) -> Ask:
    """What asks a predictor that takes one input after the other anyway."""
    places = {label_text(label): place for place, label in enumerate(manifest.labels)}

    def ask(inputs: Sequence[Input]) -> Answers:
        answers = predictor.predict(inputs)
        none_failed = np.zeros(len(answers), dtype=np.bool_)
        if not manifest.labels:
            return Answers(np.array([each.output for each in answers]), None, none_failed)
        outputs = np.array([places[label_text(each.output)] for each in answers])
        return Answers(outputs, _table(answers), none_failed)

    return ask


def ask_for_each(ask: Ask, inputs: Any) -> Answers:
    """Answers to all inputs but those at which the model raises: these alone are marked as failed.

    Where a batch raises it is halved, until the inputs that do are found.
    """
    try:
        return ask(inputs)
    except (PredictionFailed, *MODEL_FAULTS):
        if len(inputs) == 1:
            return Answers(np.zeros(1, dtype=np.int64), None, np.ones(1, dtype=np.bool_))
    half = len(inputs) // 2
    return _joined(ask_for_each(ask, inputs[:half]), ask_for_each(ask, inputs[half:]))


def _values(predicted: Any, count: int) -> Answers:
    values = np.asarray(predicted, dtype=np.float64).reshape(count)
    return Answers(values, None, ~np.isfinite(values))


def _decided(estimator: Any, matrix: Any, places: dict[Any, int]) -> Answers:
    table = _probabilities(estimator.predict_proba(matrix))
    return replace(table, outputs=_labels(estimator.predict(matrix), places).outputs)


def _probabilities(table: Array) -> Answers:
    # The first of equal ones, as the server has it.
    return Answers(
        table.argmax(axis=1), table.astype(np.float64, copy=False), ~np.isfinite(table.sum(axis=1))
    )


def _labels(predicted: Any, places: dict[Any, int]) -> Answers:
    outputs = np.array([places[label] for label in predicted.tolist()])
    return Answers(outputs, None, np.zeros(len(outputs), dtype=np.bool_))


def _table(answers: Sequence[Prediction]) -> Array | None:
    if answers and answers[0].probabilities is None:
        return None
    return np.array([list((each.probabilities or {}).values()) for each in answers], dtype=np.float64)


def _joined(a: Answers, b: Answers) -> Answers:
    """One after the other. One of which every input failed knows of no probabilities."""
    tables = None
    known = a.probabilities if a.probabilities is not None else b.probabilities
    if known is not None:
        empty = [np.full((len(x.outputs), known.shape[1]), math.nan) for x in (a, b)]
        tables = np.concatenate(
            [e if x.probabilities is None else x.probabilities for x, e in zip((a, b), empty, strict=True)]
        )
    return Answers(np.concatenate([a.outputs, b.outputs]), tables, np.concatenate([a.failed, b.failed]))
