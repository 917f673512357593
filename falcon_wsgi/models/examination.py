"""A model's files and what is said of them, examined as a server would load them: the outcome is a manifest.

This runs in a process of its own (`launch.proving`), because a file may end or fill up the process that loads it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sklearn.base import is_regressor

from falcon_wsgi.errors import CandidateInvalid, GoldenMismatch, PredictionFailed
from falcon_wsgi.models import adding, answering, libraries, loading, predictor
from falcon_wsgi.models.adding import Candidate
from falcon_wsgi.models.estimators import forget_column_names
from falcon_wsgi.models.forms import form_of
from falcon_wsgi.models.manifest import (
    BOOSTER_FILES,
    MIN_LABELS,
    MODEL_FILE,
    TRANSFORM_FILE,
    GoldenExample,
    Kind,
    Manifest,
)
from falcon_wsgi.models.matrix import matrix_of
from falcon_wsgi.models.offer import Expectation
from falcon_wsgi.models.prediction import Label, Prediction
from falcon_wsgi.models.served import ServedModel, reproduces
from falcon_wsgi.models.signature import TabularSignature, TextSignature

_FRAME_HINT = '; if it was fitted on a data frame, the signature needs "input": "frame"'


@dataclass(frozen=True, slots=True)
class Offer:
    """What is to be added.

    Attributes:
        files: names of the files in the folder, as they are stored.
        called: how messages call the files: the names that they have with the user.
        labels: what the classes are answered as; None for the classes themselves.
    """

    name: str
    version: str
    files: tuple[str, ...]
    called: Mapping[str, str]
    signature: TextSignature | TabularSignature
    labels: tuple[Label, ...] | None
    examples: Sequence[Expectation]


def examine(folder: Path, offer: Offer) -> tuple[Manifest, list[str]]:
    """The manifest, and what the user should know, a line each.

    Raises:
        ModelError: the files are refused, miss an expected answer, or cannot answer what the signature allows.
    """
    files = {name: (folder / name).read_bytes() for name in offer.files}
    estimator, fitted_with = libraries.quietly(lambda: _loaded(files, offer))
    classes = _classes(estimator, offer)
    kind, labels = _kind(classes, offer), _labels(classes, offer)
    golden = _golden(estimator, labels, offer)
    candidate = Candidate(kind, estimator, offer.signature, labels, (), {}, {})
    manifest = adding.manifest_of(offer.name, offer.version, candidate, files, golden)
    if fitted_with is not None:
        made_with = {**manifest.libraries, "scikit-learn": fitted_with}
        manifest = manifest.model_copy(update={"libraries": made_with})
    served = ServedModel.load(folder, manifest)
    inputs = [served.form.normalise(served.form.validate(each.input)) for each in golden]
    answering.require_answers(served, answering.allowed(served, inputs))
    notes = [
        f"{skew}; its answers may differ from those where it was made"
        for skew in libraries.skew(manifest.libraries)
    ]
    return manifest, [*notes, *answering.unanswered_extremes(served, inputs)]


def _loaded(files: Mapping[str, bytes], offer: Offer) -> Any:
    if MODEL_FILE in files:
        return loading.deserialise(files[MODEL_FILE], offer.called[MODEL_FILE])
    (booster,) = files.keys() & BOOSTER_FILES
    transform = None
    if TRANSFORM_FILE in files:
        transform = loading.deserialise(files[TRANSFORM_FILE], offer.called[TRANSFORM_FILE])
    return loading.deserialise_booster(files[booster], transform, offer.labels or (), offer.called[booster])


def _classes(estimator: Any, offer: Offer) -> tuple[Label, ...] | None:
    """Of a classifier; None of a regressor."""
    what = f"{' and '.join(offer.called.values())}: {type(estimator).__name__}"
    if not hasattr(estimator, "predict"):
        raise CandidateInvalid(f"{what} does not predict; a classifier or regressor is needed, fitted")
    classes = getattr(estimator, "classes_", None)
    if isinstance(classes, list) or getattr(estimator, "multilabel_", False):
        raise CandidateInvalid(f"{what} answers several questions at once, which is not served")
    if classes is not None:
        return predictor.labels_of(classes)
    if predictor.library_of(estimator) != "xgboost" and not is_regressor(estimator):
        raise CandidateInvalid(
            f"{what} is no fitted classifier or regressor; clusterers and outlier detectors are not served"
        )
    return None


def _kind(classes: tuple[Label, ...] | None, offer: Offer) -> Kind:
    about = offer.signature.type
    if classes is None:
        return "text_regression" if about == "text" else "tabular_regression"
    return "text_classification" if about == "text" else "tabular_classification"


def _labels(classes: tuple[Label, ...] | None, offer: Offer) -> tuple[Label, ...]:
    if classes is None:
        if offer.labels:
            raise CandidateInvalid("--labels: the model is a regressor, which has no classes")
        return ()
    if len(classes) < MIN_LABELS:
        raise CandidateInvalid("the model knows one class only; it has nothing to decide")
    labels = offer.labels or classes
    predictor.require_labels(classes, labels, "--labels")
    return labels


def _golden(estimator: Any, labels: tuple[Label, ...], offer: Offer) -> list[GoldenExample]:
    """The answers of this load, which have to be those that the user expects."""
    if isinstance(offer.signature, TabularSignature) and offer.signature.input == "array":
        forget_column_names(estimator)
    asked = predictor.plain(estimator, labels, matrix_of(offer.signature))
    form = form_of(offer.signature)
    golden = []
    for example in offer.examples:
        try:
            answer = asked.predict([form.normalise(form.validate(example.input))])[0]
        except PredictionFailed as error:
            raise CandidateInvalid(f"{example.where}: {_why(error, offer)}") from None
        _require_expected(answer, example)
        golden.append(
            GoldenExample(input=example.input, prediction=answer.output, probabilities=answer.probabilities)
        )
    return golden


def _why(error: PredictionFailed, offer: Offer) -> str:
    cause = error.__cause__
    reason = f"{type(cause).__name__}: {cause}" if cause is not None else str(error)
    arrays = isinstance(offer.signature, TabularSignature) and offer.signature.input == "array"
    hint = _FRAME_HINT if arrays and "frame" in reason else ""
    return f"the model cannot answer this example: {reason.strip().splitlines()[0][:300]}{hint}"


def _require_expected(answer: Prediction, example: Expectation) -> None:
    if example.prediction is None:
        return
    probabilities = example.probabilities or answer.probabilities
    expected = GoldenExample(input=example.input, prediction=example.prediction, probabilities=probabilities)
    if not reproduces(answer, expected):
        given = f"{example.prediction!r}" + (
            f" with {example.probabilities}" if example.probabilities else ""
        )
        found = f"{answer.output!r}" + (f" with {answer.probabilities}" if example.probabilities else "")
        raise GoldenMismatch(
            f"{example.where}: the expected answer is {given}, but here the model answers {found}"
        )
