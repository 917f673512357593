"""Versions whose answers differ on inputs that are known: for shadows, canaries and replays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sklearn.linear_model import LinearRegression
from sklearn.tree import DecisionTreeClassifier

from falcon_wsgi.models.adding import Candidate, add
from falcon_wsgi.models.signature import NumberField, TabularSignature
from falcon_wsgi.models.store import ModelStore

HIGHEST = 999


def _signature(maximum: float) -> TabularSignature:
    return TabularSignature(fields=(NumberField(name="x", type="number", minimum=0, maximum=maximum),))


def write_step(
    store: Path, version: str, threshold: int, *, maximum: float = HIGHEST, name: str = "step"
) -> None:
    """A model that says low for x up to `threshold` and high above it; it takes x from 0 to `maximum`."""
    estimator = DecisionTreeClassifier().fit([[threshold - 1], [threshold + 1]], ["low", "high"])
    _add(store, name, version, "tabular_classification", estimator, ("high", "low"), maximum)


def write_line(store: Path, version: str, slope: float) -> None:
    """`line` answers slope * y, for y from 0 to 999."""
    estimator = LinearRegression(fit_intercept=False).fit([[1.0], [2.0]], [slope, 2 * slope])
    signature = TabularSignature(fields=(NumberField(name="y", type="number", minimum=0, maximum=HIGHEST),))
    candidate = Candidate("tabular_regression", estimator, signature, (), ({"y": 1},), {}, {})
    add(ModelStore(store), "line", version, candidate)


def _add(
    store: Path, name: str, version: str, kind: Any, estimator: Any, labels: tuple[str, ...], maximum: float
) -> None:
    candidate = Candidate(kind, estimator, _signature(maximum), labels, ({"x": 1},), {}, {})
    add(ModelStore(store), name, version, candidate)


def serve(store: Path, name: str, version: str) -> None:
    """Let NAME/current name it, without any question."""
    models = ModelStore(store)
    with models.locked(name):
        models.point(name, version)
