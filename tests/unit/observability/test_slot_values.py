"""Values of a slot's files against those of the library: the same series from the same events."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import prometheus_client.values
import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.multiprocess import MultiProcessCollector

from falcon_wsgi.observability.slot_values import FastHistogram, slot_value_class

BUCKETS = (0.001, 0.01, 0.1, 1.0)
AMOUNTS = (0.0, 0.0009, 0.001, 0.0010001, 0.05, 0.1, 1.0, 1.5, 1e9, -1.0)


@pytest.fixture(autouse=True)
def value_class_restored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prometheus_client.values, "ValueClass", prometheus_client.values.ValueClass)


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Any]]:
    """Runs events with one kind of values, in a folder of its own; the samples that a scrape finds then."""

    def run(
        kind: str, value_class: Any, histogram: type[Histogram], events: Callable[..., None]
    ) -> list[Any]:
        folder = tmp_path / kind
        folder.mkdir()
        monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(folder))
        prometheus_client.values.ValueClass = value_class
        registry = CollectorRegistry()
        events(
            Counter("requests", "Requests.", ("status",), registry=registry),
            Gauge("depth", "Depth.", registry=registry, multiprocess_mode="livesum"),
            histogram("seconds", "Seconds.", ("stage",), buckets=BUCKETS, registry=registry),
        )
        merged = MultiProcessCollector(CollectorRegistry(), path=str(folder)).collect()
        return sorted((s.name, sorted(s.labels.items()), s.value) for m in merged for s in m.samples)

    return run


def some_events(counter: Counter, gauge: Gauge, histogram: Histogram) -> None:
    draw = random.Random(7)
    for _ in range(300):
        counter.labels(draw.choice(("200", "500"))).inc(draw.choice((1, 2, 0.5)))
        gauge.inc(draw.random())
        gauge.dec(draw.random())
        histogram.labels(draw.choice(("cache", "predict"))).observe(draw.choice(AMOUNTS))
    gauge.set(41.5)
    gauge.inc()


def many_series(counter: Counter, gauge: Gauge, histogram: Histogram) -> None:
    """So many that the files grow several times, and those from before are used again."""
    children = [counter.labels(f"status-{number}") for number in range(4000)]
    stages = [histogram.labels(f"stage-{number}") for number in range(400)]
    for _ in range(2):
        for number, child in enumerate(children):
            child.inc(number)
        for stage in stages:
            stage.observe(0.05)


@pytest.mark.parametrize("events", [some_events, many_series])
def test_a_scrape_finds_what_the_librarys_own_values_would_show(
    write: Callable[..., list[Any]], events: Callable[..., None]
) -> None:
    own = write("own", slot_value_class(3), FastHistogram, events)
    theirs = write("theirs", prometheus_client.values.MultiProcessValue(lambda: 3), Histogram, events)
    assert own == theirs
    assert any(value for _, _, value in own)


def test_what_a_process_wrote_is_there_for_the_next_of_its_slot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    for expected in (1.0, 2.0, 3.0):
        prometheus_client.values.ValueClass = slot_value_class(1)
        counter = Counter("requests", "Requests.", registry=CollectorRegistry())
        counter.inc()
        assert next(iter(counter.collect())).samples[0].value == expected
