"""How cost changes with the vocabulary of a text model."""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline

from falcon_wsgi.library import add_model
from tests.benchmarks import models
from tests.benchmarks.scaling.findings import at_most_linear, flat
from tests.benchmarks.scaling.fit import Points
from tests.benchmarks.scaling.lab import CONNECTIONS, Lab, Step
from tests.benchmarks.scaling.result import Panel, Point, Result
from tests.benchmarks.workloads import Workload

SIZES = (5_000, 50_000, 500_000)
_LABELS = ("negative", "neutral", "positive")
_EXAMPLES = 50
# A hundred times the words: each look-up misses the processor's caches, which costs some 12 times 4 x 0.1 us.
_FLAT_WITHIN = 1.4


def vocabulary(lab: Lab, sizes: Sequence[int] = SIZES) -> Result:
    points: list[Point] = []
    for size in sizes:
        store = lab.new_folder() / "store"
        started = time.monotonic()
        _store_with(size, store, lab.session.store)
        added_s = time.monotonic() - started
        steps = [Step(size, _workload(size))]
        with lab.falcon(store=store) as falcon:
            (point,) = lab.points(falcon, steps, models={"sentiment": models.load(store, "sentiment")})
            point.more.update({"add s": added_s, "start s": falcon.ready_s})
        points.append(point)
    result = Result(
        "vocabulary",
        "Words that the model knows",
        "words",
        f"TF-IDF and logistic regression of three classes over w1, w2, ...; new texts of 12 of these, each word as "
        f"likely as any other, {CONNECTIONS} connections.",
        points,
    )
    cpu, memory = result.of(lambda p: p.cpu_us), result.of(lambda p: p.pss_mb)
    start: Points = result.of(lambda p: p.more["start s"])
    result.panels = [
        Panel("CPU us/request", "words", {"": cpu}, log_x=True),
        Panel("memory, MB", "words", {"": memory}, log_x=True),
    ]
    result.findings = [
        flat("CPU/request", cpu, "us", within=_FLAT_WITHIN),
        at_most_linear("memory", memory, "MB", "word", per=100_000),
        at_most_linear("start to ready", start, "s", "word", per=100_000),
    ]
    return result


def pipeline_of(size: int) -> Pipeline:
    """A fitted pipeline over the words w1 to w`size`, its weights drawn rather than learned; always the same."""
    rng = np.random.default_rng(size)
    vectorizer = TfidfVectorizer(lowercase=False)
    vectorizer.vocabulary_ = {f"w{i + 1}": i for i in range(size)}
    vectorizer.fixed_vocabulary_ = False
    vectorizer.idf_ = rng.uniform(1.0, 8.0, size)
    classifier = LogisticRegression()
    classifier.classes_ = np.array(_LABELS)
    classifier.coef_ = rng.normal(size=(len(_LABELS), size))
    classifier.intercept_ = np.zeros(len(_LABELS))
    classifier.n_features_in_ = size
    classifier.n_iter_ = np.array([1])
    return make_pipeline(vectorizer, classifier)


def _store_with(size: int, store: Path, others: Path) -> None:
    """The project's models, with this one in place of `sentiment`."""
    for name in models.NAMES:
        if name != "sentiment":
            shutil.copytree(others / name, store / name)
    rng = random.Random(size)
    examples: list[Any] = [_workload(size).draw(rng).inputs[0] for _ in range(_EXAMPLES)]
    add_model("sentiment", pipeline_of(size), examples, store=store)


def _workload(size: int) -> Workload:
    return Workload(f"{size} words", "new texts", "sentiment", numbered=size)
