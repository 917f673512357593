"""`falcon models compare`: its figures are those of the metrics."""

from __future__ import annotations

import pytest

from falcon_wsgi.commands.compare import _text, figures
from falcon_wsgi.models.comparison import Classes, difference, wilson
from falcon_wsgi.models.prediction import Prediction
from falcon_wsgi.observability.events import ShadowEvents
from falcon_wsgi.observability.metrics import Metrics


@pytest.fixture
def metrics() -> Metrics:
    return Metrics("worker-1")


def answer(label: str, probability: float) -> Prediction:
    other = "bad" if label == "good" else "good"
    return Prediction(label, probability, {label: probability, other: 1 - probability})


def compare(events: ShadowEvents, live: Prediction, candidate: Prediction, times: int) -> None:
    for _ in range(times):
        events.compared(live, candidate, difference(live, candidate, 0.01))


def test_a_comparison_is_told_in_figures(metrics: Metrics) -> None:
    events = ShadowEvents(metrics, "m", "1.1.0", "1.0.0", Classes(("bad", "good")).pair)
    compare(events, answer("good", 0.9), answer("good", 0.9), 90)
    compare(events, answer("good", 0.9), answer("bad", 0.7), 8)
    compare(events, answer("bad", 0.6), answer("good", 0.6), 2)
    events.failed("dropped", 50)
    events.failed("timeout", 1)
    events.failed("error", 3)
    events.duration("candidate", 0.004)
    events.duration("candidate", 0.002)
    (one,) = figures(metrics.registry.collect())
    assert {name: one[name] for name in ("compared", "agree", "disagree", "error", "timeout", "dropped")} == {
        "compared": 100,
        "agree": 90,
        "disagree": 10,
        "error": 3,
        "timeout": 1,
        "dropped": 50,
    }
    assert one["agreement"] == 0.9
    assert one["agreement_interval_95"] == list(wilson(90, 100))
    assert one["disagreements"] == [
        {"live": "good", "candidate": "bad", "count": 8},
        {"live": "bad", "candidate": "good", "count": 2},
    ]
    assert one["score_distance"]["p50"] < 1e-6
    assert 0.5 < one["score_distance"]["p99"] < 0.75
    assert one["mean_call_ms"] == {"candidate": pytest.approx(3), "live": None}


def test_each_pair_of_versions_has_figures_of_its_own(metrics: Metrics) -> None:
    for version, against in (("1.1.0", "1.0.0"), ("1.2.0", "1.1.0")):
        ShadowEvents(metrics, "m", version, against, Classes(()).pair)
    found = figures(metrics.registry.collect())
    assert [(one["version"], one["against"]) for one in found] == [("1.1.0", "1.0.0"), ("1.2.0", "1.1.0")]
    assert [one["agreement"] for one in found] == [None, None]


def test_numbers_are_told_by_side(metrics: Metrics) -> None:
    events = ShadowEvents(metrics, "m", "1.1.0", "1.0.0", Classes(()).pair)
    compare(events, Prediction(100.0), Prediction(110.0), 3)
    compare(events, Prediction(100.0), Prediction(100.5), 1)
    (one,) = figures(metrics.registry.collect())
    assert (one["agree"], one["disagreements"]) == (
        1,
        [{"live": "number", "candidate": "higher", "count": 3}],
    )


def test_the_text_says_what_is_not_known_yet(metrics: Metrics) -> None:
    ShadowEvents(metrics, "m", "1.1.0", "1.0.0", Classes(()).pair)
    text = _text(figures(metrics.registry.collect())[0])
    assert text.startswith("m 1.1.0 in the shadow of 1.0.0, since the instance started\n")
    assert "agreement  none yet" in text
    assert "candidate - ms, live - ms" in text


def test_without_a_shadow_there_is_nothing(metrics: Metrics) -> None:
    assert figures(metrics.registry.collect()) == []
