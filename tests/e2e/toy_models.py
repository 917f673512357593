"""Small text models that load at once, so that what is tested is the service around them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline

from falcon_wsgi.models.adding import Candidate, add
from falcon_wsgi.models.predictor import labels_of
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
    candidate = Candidate(
        kind="text_classification",
        estimator=estimator,
        signature=TextSignature(),
        labels=labels_of(estimator.classes_),
        golden=("good great", "bad"),
        metrics={},
        data={},
    )
    add(ModelStore(store), "sentiment", version, candidate)
    return store / "sentiment" / version
