"""Which tensors a model's answers are."""

from __future__ import annotations

from typing import Any

import pytest

from falcon_wsgi.http.protocol.inputs import datatype_of
from falcon_wsgi.http.protocol.outputs import PREDICT, PREDICT_PROBA, outputs_of, predictions_of
from falcon_wsgi.models.prediction import Prediction
from falcon_wsgi.models.signature import TextSignature
from tests.unit.http.protocol.models import served


@pytest.mark.parametrize(
    ("labels", "datatype"),
    [
        (("a", "b"), "BYTES"),
        ((1, 2), "INT64"),
        ((False, True), "BOOL"),
        ((1, "1a"), "BYTES"),
        ((1, False), "BYTES"),
        ((0, 2**63), "BYTES"),
        ((-(2**63), 2**63 - 1), "INT64"),
    ],
)
def test_labels_have_the_datatype_that_holds_them_all(labels: tuple[Any, ...], datatype: str) -> None:
    assert datatype_of(labels) == datatype
    model = served("x", TextSignature(), lambda text: Prediction(labels[0]), labels)
    output = outputs_of(model.manifest)[PREDICT]
    assert output.datatype == datatype
    (element,) = output.elements(Prediction(labels[0]))
    assert isinstance(element, str) is (datatype == "BYTES")


def test_probabilities_are_in_the_order_of_the_labels() -> None:
    answer = Prediction("b", 0.9, {"b": 0.9, "a": 0.1})
    model = served("x", TextSignature(), lambda text: answer, ("a", "b"))
    assert list(outputs_of(model.manifest)[PREDICT_PROBA].elements(answer)) == [0.1, 0.9]


def test_a_stored_answer_of_another_version_is_told_as_far_as_it_goes() -> None:
    stored = {PREDICT: ([1, 1], ["c"]), PREDICT_PROBA: ([1, 3], [0.1, 0.2, 0.7])}
    (told,) = predictions_of(stored, ["a", "b"])
    assert told == Prediction("c", 0.7, {"0": 0.1, "1": 0.2, "2": 0.7})
