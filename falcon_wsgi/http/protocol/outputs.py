"""The output tensors of a model: `predict`, and `predict_proba` where a classifier gives probabilities.

The names and shapes are those of MLServer's scikit-learn runtime.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from falcon_wsgi.http.protocol.inputs import datatype_of
from falcon_wsgi.models.manifest import Manifest
from falcon_wsgi.models.prediction import Prediction, label_text
from falcon_wsgi.models.served import ServedModel

PREDICT = "predict"
PREDICT_PROBA = "predict_proba"


@dataclass(frozen=True, slots=True)
class Output:
    """A tensor of shape [rows, width].

    Attributes:
        elements: those of one prediction.
        labels: what the columns of probabilities stand for.
    """

    name: str
    datatype: str
    width: int
    elements: Callable[[Prediction], Sequence[Any]]
    labels: tuple[str, ...] = ()

    def described(self) -> dict[str, Any]:
        """As the model's metadata shows it."""
        tensor: dict[str, Any] = {
            "name": self.name,
            "datatype": self.datatype,
            "shape": [-1, self.width],
        }
        return tensor | {"parameters": {"labels": list(self.labels)}} if self.labels else tensor


def outputs_of(manifest: Manifest) -> dict[str, Output]:
    """All that the model has, by name, in the order of an answer."""
    if not manifest.classifies:
        return {PREDICT: Output(PREDICT, "FP64", 1, lambda prediction: (float(prediction.output),))}
    datatype = datatype_of(manifest.labels)
    element = label_text if datatype == "BYTES" else lambda label: label
    found = {PREDICT: Output(PREDICT, datatype, 1, lambda prediction: (element(prediction.output),))}
    if manifest.golden[0].probabilities is not None:
        labels = tuple(map(label_text, manifest.labels))
        found[PREDICT_PROBA] = Output(
            PREDICT_PROBA, "FP64", len(labels), lambda prediction: _ordered(prediction, labels), labels
        )
    return found


class KnownOutputs:
    """Remembers the outputs of versions that were asked once, by digest."""

    def __init__(self) -> None:
        self._found: dict[str, dict[str, Output]] = {}

    def of(self, served: ServedModel) -> dict[str, Output]:
        found = self._found.get(served.digest)
        if found is None:
            found = self._found[served.digest] = outputs_of(served.manifest)
        return found


def _ordered(prediction: Prediction, labels: Sequence[str]) -> list[float]:
    assert prediction.probabilities is not None, "the golden example has them, so every answer has"
    return [prediction.probabilities[label] for label in labels]


def predictions_of(
    tensors: dict[str, tuple[list[int], Sequence[Any]]], labels: Sequence[str]
) -> list[Prediction]:
    """The predictions that rendered tensors tell of; `tensors` are (shape, elements) by name.

    An answer to which only one of the two outputs was asked tells only of that. `labels` are those of now; where there
    are not as many as the answer has probabilities, their numbers take their place.
    """
    rows = next(iter(tensors.values()))[0][0]
    chosen = tensors.get(PREDICT, ([], [None] * rows))[1]
    (_, width), flat = tensors.get(PREDICT_PROBA, ([rows, 0], []))
    names = labels if len(labels) == width else [str(number) for number in range(width)]
    split = [flat[row * width : (row + 1) * width] for row in range(rows)]
    return [
        _told(output, dict(zip(names, row, strict=True))) for output, row in zip(chosen, split, strict=True)
    ]


def _told(output: Any, probabilities: dict[str, float]) -> Prediction:
    if not probabilities:
        return Prediction(output)
    likeliest = max(probabilities, key=probabilities.__getitem__)
    return Prediction(likeliest if output is None else output, probabilities[likeliest], probabilities)
