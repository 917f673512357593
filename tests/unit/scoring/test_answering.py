"""Answers in arrays are those that the server's predictor gives one by one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from falcon_wsgi.scoring.answering import Answers, ask_for_each


class Moody:
    """Raises where an input is over 100; not finite where it is negative."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, inputs: Any) -> Answers:
        self.calls += 1
        if (inputs > 100).any():
            raise ValueError("too large")
        table = np.column_stack([inputs, 1 - inputs])
        return Answers(table.argmax(axis=1), table, inputs < 0)


@pytest.mark.parametrize("bad", [[], [0], [7], [3, 4], [0, 9], list(range(10))])
def test_only_the_inputs_that_the_model_raises_at_fail(bad: list[int]) -> None:
    inputs = np.linspace(0, 1, 10)
    inputs[bad] = 500
    answers = ask_for_each(Moody(), inputs)
    assert np.flatnonzero(answers.failed).tolist() == bad
    good = ~answers.failed
    assert answers.outputs[good].tolist() == [int(x < 0.5) for x in inputs[good]]
    if answers.probabilities is not None:
        assert answers.probabilities[good, 0].tolist() == inputs[good].tolist()


def test_a_single_bad_input_among_many_costs_few_calls() -> None:
    inputs = np.zeros(4096)
    inputs[1234] = 500
    ask = Moody()
    assert ask_for_each(ask, inputs).failed.sum() == 1
    assert ask.calls <= 2 * 12 + 1


def test_answers_that_are_not_finite_fail_without_an_error() -> None:
    assert ask_for_each(Moody(), np.array([0.5, -1.0])).failed.tolist() == [False, True]
