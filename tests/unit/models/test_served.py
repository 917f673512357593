"""Which models answer a request at once, and which let it wait for others."""

from __future__ import annotations

from typing import Any

import pytest

from falcon_wsgi.models.compiled import CompiledLinearText
from falcon_wsgi.models.compiled_rows import CompiledLinearRows
from falcon_wsgi.models.compiled_trees import CompiledTrees
from falcon_wsgi.models.predictor import CompiledPredictor
from falcon_wsgi.models.served import ServedModel


class Library:
    """A predictor that asks the library."""

    name = "scikit-learn"

    def predict(self, inputs: Any) -> list[Any]:
        return []


def served(predictor: Any, *, heavy: bool = False) -> ServedModel:
    parts: Any = None
    return ServedModel(parts, "digest", parts, predictor, heavy, 0.0)


def compiled(form: type[Any]) -> CompiledPredictor:
    return CompiledPredictor(form.__new__(form), ["a", "b"])


@pytest.mark.parametrize("form", [CompiledLinearText, CompiledLinearRows])
def test_linear_models_answer_at_once(form: type[Any]) -> None:
    assert served(compiled(form)).at_once


def test_trees_are_asked_for_all_that_wait() -> None:
    assert not served(compiled(CompiledTrees)).at_once


def test_what_is_not_compiled_is_asked_for_all_that_wait() -> None:
    assert not served(Library()).at_once


def test_a_heavy_model_never_answers_on_the_event_loop() -> None:
    assert not served(compiled(CompiledLinearText), heavy=True).at_once
