"""What a model says about one input."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import orjson

from falcon_wsgi.models.signature import Category

Label = Category


class Prediction(NamedTuple):
    """One answer of a model.

    Attributes:
        output: the label (str, int or bool) of a classifier, the value (float) of a regressor.
        confidence: probability of `output`, 0 to 1; None where the model gives none.
        probabilities: by the label's text (`label_text`); None where the model gives none.
    """

    output: Any
    confidence: float | None = None
    probabilities: dict[str, float] | None = None


def label_text(label: Label) -> str:
    """A label as JSON object keys and the request log name it: `3`, `true`, `positive`."""
    return str(label).lower() if isinstance(label, bool) else str(label)


def encode(prediction: Prediction) -> bytes:
    """JSON, `[output, confidence, probabilities]`. Floats come back exactly."""
    return orjson.dumps((prediction.output, prediction.confidence, prediction.probabilities))


def decode(encoded: bytes) -> Prediction:
    """The inverse of `encode`.

    Raises:
        ValueError: anything that `encode` does not produce.
    """
    match orjson.loads(encoded):
        case [output, confidence, probabilities] if (
            _is_output(output)
            and (confidence is None or _is_number(confidence))
            and (probabilities is None or _are_probabilities(probabilities))
        ):
            return Prediction(output, confidence, probabilities)
    raise ValueError("not an encoded prediction")


def _is_output(value: Any) -> bool:
    return isinstance(value, str | bool) or _is_number(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _are_probabilities(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_is_number, value.values()))
