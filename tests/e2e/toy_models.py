"""Small text models that load at once, so that what is tested is the service around them."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from skops.io import dumps

from falcon_wsgi.models.manifest import MODEL_FILE, GoldenExample, Manifest, StoredFile
from falcon_wsgi.models.predictor import EstimatorPredictor
from falcon_wsgi.models.signature import TextSignature
from falcon_wsgi.models.store import ModelStore

TEXTS = ("good great", "bad awful", "table door") * 5
LABELS = ("positive", "negative", "neutral") * 5
# Some two seconds of work for `write_slow_model`'s, for `POST /infer/batch`.
SLOW_TEXTS = [f"{number} abcdefghij " * 150 for number in range(50)]


def write_model(store: Path, version: str = "1.0.0", labels: tuple[str, ...] = LABELS) -> Path:
    """A compiled model that takes microseconds. Its folder in the store."""
    return _write(store, version, TfidfVectorizer(), labels)


def write_slow_model(store: Path, version: str = "1.0.0") -> Path:
    """A model that counts all substrings of up to 100 characters. Its folder in the store."""
    return _write(store, version, TfidfVectorizer(analyzer="char", ngram_range=(1, 100)), LABELS)


def _write(store: Path, version: str, vectorizer: Any, labels: tuple[str, ...]) -> Path:
    estimator = Pipeline([("tfidf", vectorizer), ("classifier", LogisticRegression())]).fit(TEXTS, labels)
    archive = dumps(estimator)
    manifest = Manifest(
        format=1,
        name="sentiment",
        version=version,
        kind="text_classification",
        signature=TextSignature(),
        labels=tuple(sorted(set(labels))),
        files={MODEL_FILE: StoredFile(sha256=hashlib.sha256(archive).hexdigest(), bytes=len(archive))},
        libraries={},
        trained_at=datetime.now(UTC),
        metrics={},
        data={},
        golden=_golden(estimator),
    )
    return ModelStore(store).write(manifest, {MODEL_FILE: archive})


def _golden(estimator: Any) -> tuple[GoldenExample, ...]:
    inputs = ["good great", "bad"]
    answers = EstimatorPredictor(estimator).predict(inputs)
    return tuple(
        GoldenExample(input=text, prediction=str(answer.output), probabilities=answer.probabilities or {})
        for text, answer in zip(inputs, answers, strict=True)
    )
