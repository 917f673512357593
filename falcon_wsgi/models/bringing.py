"""A user's fitted estimator and a few example rows as a stored, proved version."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from sklearn.base import is_classifier, is_regressor
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted

from falcon_wsgi.errors import CandidateInvalid, PredictionFailed, SignatureChanged
from falcon_wsgi.models import adding, answering, columns, examples, offer, predictor, promotion
from falcon_wsgi.models.adding import Candidate
from falcon_wsgi.models.columns import Examples
from falcon_wsgi.models.examples import Wishes
from falcon_wsgi.models.forms import Input
from falcon_wsgi.models.manifest import (
    MIN_LABELS,
    NAME_PATTERN,
    VERSION_PATTERN,
    GoldenExample,
    Kind,
    Manifest,
)
from falcon_wsgi.models.matrix import is_numeric, matrix_of
from falcon_wsgi.models.prediction import Label, Prediction
from falcon_wsgi.models.signature import NumberField, Signature, TabularSignature, TextSignature
from falcon_wsgi.models.store import ModelStore

# Examples whose answers are compared, and those of them that every load has to reproduce.
_COMPARED = 1000
_GOLDEN = 5
_EQUAL_WITHIN_SINGLE = 1e-6


def add_model(
    store: ModelStore,
    name: str,
    estimator: Any,
    given: Any,
    *,
    version: str | None = None,
    wishes: Wishes | None = None,
    signature: Signature | Mapping[str, Any] | None = None,
    field_names: Sequence[str] | None = None,
    labels: Sequence[Label] | Mapping[Any, Label] | None = None,
    metrics: Mapping[str, Any] | None = None,
    data: Mapping[str, Any] | None = None,
    promote: bool = False,
) -> tuple[Manifest, list[str]]:
    """See `library.add_model`. Also returns what the user should know, a line each."""
    check_name(name, version)
    adding.require_free(store, name, version)
    task = task_of(estimator)
    wished = None if signature is None else offer.parsed(signature, "signature")
    if isinstance(wished, TabularSignature) and isinstance(given, np.ndarray):
        field_names = field_names or wished.names
    found = columns.read(given, estimator, field_names)
    described = wished or examples.infer(found, estimator, wishes or Wishes())
    if isinstance(described, TextSignature) is not (found.columns is None):
        raise CandidateInvalid(f"the signature is of type {described.type}, the examples are not")
    found = _some(found)
    rows = examples.rows_of(found)
    inputs = examples.inputs_of(rows, described)
    answers = _own_answers(estimator, found, inputs, task, labels)
    named = _labels(estimator, labels) if task == "classification" else ()
    if isinstance(described, TabularSignature) and wished is None:
        described = _lightest(described, estimator, named, inputs, answers)
    kind: Kind = f"{'text' if found.columns is None else 'tabular'}_{task}"  # type: ignore[assignment]
    candidate = Candidate(kind, estimator, described, named, (), metrics or {}, data or {})
    files = adding.files_of(estimator)
    golden = _golden(rows, inputs, answers)
    manifest = adding.manifest_of(name, version or adding.FIRST_VERSION, candidate, files, golden)
    served = adding.prove(manifest, files)
    compare(served.predictor.predict, inputs, answers, _tolerance(described))
    answering.require_answers(served, answering.allowed(served, inputs))
    manifest = adding.write_beside(store, manifest, files, version)
    notes = answering.unanswered_extremes(served, inputs)
    if promote:
        promote_stored(store, manifest)
    return manifest, notes


def check_name(name: str, version: str | None) -> None:
    """Raises CandidateInvalid."""
    if not re.fullmatch(NAME_PATTERN, name):
        raise CandidateInvalid(
            f"{name!r} is no name for a model: up to 63 of a to z, 0 to 9 and -, the first one not -"
        )
    if version is not None and not re.fullmatch(VERSION_PATTERN, version):
        raise CandidateInvalid(f"{version!r} is no version; one is three numbers, for example 1.0.0")


def task_of(estimator: Any) -> str:
    """ "classification" or "regression". Raises CandidateInvalid for any other estimator, and an unfitted one."""
    what = type(estimator).__name__
    tagged = hasattr(estimator, "__sklearn_tags__")
    if not tagged or not (is_classifier(estimator) or is_regressor(estimator)):
        raise CandidateInvalid(
            f"{what} is neither a classifier nor a regressor; clusterers, outlier detectors and bare transformers "
            "are not served"
        )
    try:
        check_is_fitted(estimator)
    except NotFittedError:
        raise CandidateInvalid(f"{what} is not fitted; call fit first") from None
    return "classification" if is_classifier(estimator) else "regression"


def _some(found: Examples) -> Examples:
    """Evenly spread ones where there are very many."""
    if len(found) <= _COMPARED:
        return found
    chosen = np.linspace(0, len(found) - 1, _COMPARED).astype(int)
    if found.columns is None:
        return Examples([found.given[i] for i in chosen], None)
    given = found.given.iloc[chosen] if hasattr(found.given, "iloc") else found.given[chosen]
    return Examples(given, tuple(column.only(chosen) for column in found.columns))


def _labels(estimator: Any, wished: Sequence[Label] | Mapping[Any, Label] | None) -> tuple[Label, ...]:
    classes = estimator.classes_
    if isinstance(classes, list) or getattr(estimator, "multilabel_", False):
        raise CandidateInvalid("models that answer several questions at once are not served")
    known = predictor.labels_of(classes)
    if isinstance(wished, Mapping):
        absent = [label for label in known if label not in wished]
        if absent or len(wished) != len(known):
            raise CandidateInvalid(f"labels must have an entry for each class of the model: {list(known)}")
        wished = [wished[label] for label in known]
    found = tuple(wished) if wished is not None else known
    if len(known) < MIN_LABELS:
        raise CandidateInvalid("the model knows one class only; it has nothing to decide")
    predictor.require_labels(known, found, "labels")
    return found


def _own_answers(
    estimator: Any,
    found: Examples,
    inputs: Sequence[Input],
    task: str,
    labels: Sequence[Label] | Mapping[Any, Label] | None,
) -> list[Prediction]:
    """What the estimator itself answers to the examples as they were given."""
    given = list(inputs) if found.columns is None else found.given
    with _faults_explained(), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        answered = np.asarray(estimator.predict(given))
        asked = getattr(estimator, "predict_proba", None) if task == "classification" else None
        probabilities = None if asked is None else np.asarray(asked(given))
    if answered.ndim == 2 and answered.shape[1] == 1:
        answered = answered[:, 0]
    if answered.shape != (len(inputs),):
        raise CandidateInvalid("models that answer several questions at once are not served")
    if task == "regression":
        return [Prediction(float(value)) for value in answered]
    named = _labels(estimator, labels)
    return predictor.decided(answered, probabilities, estimator.classes_, named)


@contextmanager
def _faults_explained() -> Iterator[None]:
    try:
        yield
    except predictor.MODEL_FAULTS as error:
        reason = (str(error).strip() or "no reason given").splitlines()[0][:300]
        raise CandidateInvalid(
            f"the model cannot answer the examples: {type(error).__name__}: {reason}"
        ) from error


def _lightest(
    signature: TabularSignature,
    estimator: Any,
    labels: Sequence[Label],
    inputs: Sequence[Input],
    answers: Sequence[Prediction],
) -> TabularSignature:
    """With arrays as input where the answers are the same: a data frame costs time at every call, and memory."""
    as_array = signature.model_copy(update={"input": "array"})
    if signature.input == "array" or not is_numeric(signature):
        return signature
    asked = [*inputs, *answering.probed(signature, inputs)]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            within = _tolerance(signature)
            compare(_plain(estimator, labels, as_array), inputs, answers, within)
            framed = _plain(estimator, labels, signature)(asked)
            compare(_plain(estimator, labels, as_array), asked, framed, within)
    except (CandidateInvalid, PredictionFailed):
        return signature
    return as_array


def _plain(estimator: Any, labels: Sequence[Label], signature: TabularSignature) -> Any:
    return predictor.plain(estimator, labels, matrix_of(signature)).predict


def _tolerance(signature: TextSignature | TabularSignature) -> float:
    """Sums of 32-bit numbers depend on their order, and so on how many rows are asked for at once."""
    single = isinstance(signature, TabularSignature) and any(
        isinstance(field, NumberField) and field.dtype == "float32" for field in signature.fields
    )
    return _EQUAL_WITHIN_SINGLE if single else predictor.EQUAL_WITHIN


def compare(ask: Any, inputs: Sequence[Input], answers: Sequence[Prediction], within: float) -> None:
    """Raises CandidateInvalid where `ask` answers otherwise, PredictionFailed where it cannot answer."""
    for i, (ours, own) in enumerate(zip(ask(inputs), answers, strict=True)):
        if not predictor.same(ours, own, within):
            raise CandidateInvalid(
                f"example {i} is answered with {ours.output} by what would be stored, but with {own.output} by the "
                f"model itself (the row as sent: {str(inputs[i])[:200]}); columns of plain types are served exactly"
            )


def _golden(
    rows: Sequence[Any], inputs: Sequence[Input], answers: Sequence[Prediction]
) -> list[GoldenExample]:
    """A row with something missing if there is one, then rows with different answers."""
    incomplete = [i for i, row in enumerate(inputs) if isinstance(row, tuple) and None in row][:1]
    first_of: dict[Any, int] = {}
    for i, answer in enumerate(answers):
        first_of.setdefault(answer.output, i)
    chosen = list(dict.fromkeys([*incomplete, *first_of.values(), *range(len(rows))]))[:_GOLDEN]
    return [
        GoldenExample(input=rows[i], prediction=answers[i].output, probabilities=answers[i].probabilities)
        for i in chosen
    ]


def promote_stored(store: ModelStore, manifest: Manifest) -> None:
    """Raises SignatureChanged where the served version takes other inputs."""
    try:
        promotion.promote(store, manifest.name, manifest.version)
    except SignatureChanged as error:
        raise SignatureChanged(
            f"{manifest.name} {manifest.version} is stored, but not promoted: {error}"
        ) from None
