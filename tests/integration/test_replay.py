"""Logged inputs through a candidate that answers in a process of its own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from falcon_wsgi.models.comparison import wilson
from falcon_wsgi.models.replay import Replay, Report
from falcon_wsgi.models.served import ServedModel
from falcon_wsgi.models.store import ModelStore
from tests.e2e.heavy_model import STUCK_TEXT, light, store, stuck
from tests.e2e.trial_models import write_line, write_step


class Row(NamedTuple):
    event_id: str
    batch_index: int
    version: str
    prediction: str
    probabilities: dict[str, float] | None
    inference_ms: float | None
    payload: dict[str, Any]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> ModelStore:
    root = tmp_path_factory.mktemp("store")
    write_step(root, "1.0.0", 500)
    write_step(root, "1.1.0", 600)
    write_step(root, "2.0.0", 600, maximum=899)
    write_line(root, "1.0.0", 2.0)
    write_line(root, "1.1.0", 2.1)
    return ModelStore(root)


def step_rows(xs: Iterable[float], version: str = "1.0.0", threshold: int = 500) -> Iterator[Row]:
    """What an instance that serves `version` logs."""
    for x in xs:
        high = float(x > threshold)
        answer = "high" if high else "low"
        yield Row(f"event-{x:04}", 0, version, answer, {"high": high, "low": 1 - high}, 0.5, {"x": float(x)})


def replayed(models: ModelStore, candidate: str, rows: Iterable[Row], name: str = "step") -> Report:
    current = models.load(name, "1.0.0")
    return Replay(models.load(name, candidate), current, timeout_s=5, tolerance=0.01).run(rows)


def test_every_figure_is_the_one_that_was_made(models: ModelStore) -> None:
    report = replayed(models, "1.1.0", step_rows(range(1000)))
    assert (report.rows, report.logged, report.afresh, report.agreed) == (1000, 1000, 0, 900)
    assert report.agreement == 0.9
    assert report.interval == wilson(900, 1000)
    assert report.confusion == {("low", "low"): 501, ("high", "low"): 100, ("high", "high"): 399}
    assert (report.distance.count, report.distance.largest, report.distance.quantile(0.5)) == (1000, 1, 0)
    assert (report.errors, report.skipped, report.stopped) == ({}, {}, None)
    assert report.logged_ms.quantile(0.5) == pytest.approx(0.5, rel=0.01)
    assert report.candidate_ms.count == 1000
    assert [example.event_id for example in report.examples] == [f"event-{x:04}" for x in range(600, 590, -1)]


def test_answers_of_other_versions_are_replaced_by_the_served_ones(models: ModelStore) -> None:
    """The log says "low" for all of them, as the version that answered did."""
    report = replayed(models, "1.1.0", step_rows(range(450, 650), version="0.9.0", threshold=999))
    assert (report.logged, report.afresh) == (0, 200)
    assert report.confusion == {("low", "low"): 51, ("high", "low"): 100, ("high", "high"): 49}
    assert report.logged_ms.count == 0


def test_a_version_agrees_with_itself(models: ModelStore) -> None:
    report = replayed(models, "1.0.0", step_rows(range(200)))
    assert (report.agreed, report.rows, report.examples) == (200, 200, [])


def test_inputs_that_no_longer_fit_are_errors_by_pointer_and_disagreements(models: ModelStore) -> None:
    report = replayed(models, "2.0.0", step_rows(range(1000)))
    assert report.errors == {"invalid: /x less_than_equal": 100}
    assert (report.rows, report.agreed) == (1000, 800)


def test_inputs_that_the_served_version_cannot_answer_are_not_compared(models: ModelStore) -> None:
    rows = [*step_rows([1, 2]), *step_rows([1000, 1001], version="0.9.0")]
    rows.append(Row("other", 0, "0.9.0", "low", None, None, {"text": "a text"}))
    report = replayed(models, "1.1.0", rows)
    assert report.skipped == {"invalid: /x less_than_equal": 2, "invalid: /x missing": 1}
    assert (report.rows, report.agreed) == (2, 2)


def test_numbers_are_compared_within_the_tolerance(models: ModelStore) -> None:
    rows = [Row(f"e{y}", 0, "1.0.0", str(2.0 * y), None, None, {"y": float(y)}) for y in range(100)]
    report = replayed(models, "1.1.0", rows, name="line")
    assert report.agreed == 1, "only 0 times anything is the same"
    assert report.confusion == {("number", "number"): 1, ("number", "higher"): 99}
    assert report.absolute.largest == pytest.approx(9.9)
    assert report.distance.largest == pytest.approx(0.1 / 2.1)


def test_after_a_thousand_rows_one_in_64_is_timed(models: ModelStore) -> None:
    report = replayed(models, "1.1.0", step_rows(x % 1000 for x in range(3000)))
    assert report.rows == 3000
    assert 1000 <= report.candidate_ms.count < 1100


def text_model(root: Path, estimator: Any) -> ServedModel:
    return ModelStore(store(root, estimator)).load("sentiment")


def texts(*given: str) -> list[Row]:
    return [Row(f"e{i}", 0, "1.0.0", "positive", None, None, {"text": text}) for i, text in enumerate(given)]


@pytest.fixture(scope="module")
def hanging(tmp_path_factory: pytest.TempPathFactory) -> tuple[ServedModel, ServedModel]:
    """A model, and a candidate that hangs on one text."""
    return (
        text_model(tmp_path_factory.mktemp("live"), light()),
        text_model(tmp_path_factory.mktemp("candidate"), stuck()),
    )


def test_an_input_on_which_the_candidate_hangs_costs_its_neighbours_nothing(
    hanging: tuple[ServedModel, ServedModel],
) -> None:
    live, candidate = hanging
    rows = texts("good great", STUCK_TEXT, "lovely good", "good")
    report = Replay(candidate, live, timeout_s=0.2, tolerance=0).run(rows)
    assert report.errors == {"deadline_exceeded": 1}
    assert (report.rows, report.agreed, report.stopped) == (4, 3, None)


def test_a_candidate_that_hangs_again_and_again_ends_the_replay(
    hanging: tuple[ServedModel, ServedModel],
) -> None:
    live, candidate = hanging
    asked = 0

    def endless() -> Iterator[Row]:
        nonlocal asked
        while True:
            asked += 1
            yield texts(STUCK_TEXT)[0]

    report = Replay(candidate, live, timeout_s=0.05, tolerance=0).run(endless())
    assert report.stopped == "a model's process died or overran 10 times; the rest was not asked"
    assert asked <= 128
    assert report.agreed == 0
