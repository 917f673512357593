"""Models of a test's own: one whose predictions take long, and one that gets stuck on a particular input."""

from __future__ import annotations

import hashlib
import random
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline
from skops.io import dumps

from falcon_wsgi.models.manifest import MODEL_FILE, GoldenExample, Manifest, StoredFile
from falcon_wsgi.models.predictor import labels_of, plain
from falcon_wsgi.models.signature import TextSignature
from falcon_wsgi.models.store import ModelStore

TEXTS = ["good great nice lovely", "bad awful poor dreadful", "the table stood by the door"] * 40
LABELS = ["positive", "negative", "neutral"] * 40
GOLDEN = ("a good and lovely thing", "an awful table")

# A run of a's that no b ends is tried in every way to split it: 2 to the power of its length.
STUCK_PATTERN = r"(?:a+)+b|\w\w+"
STUCK_TEXT = "good " + "a" * 60


def manifest_for(archive: bytes, estimator: Any, **changes: Any) -> Manifest:
    answers = plain(estimator, labels_of(estimator.classes_), list).predict(GOLDEN)
    fields: dict[str, Any] = {
        "format": 1,
        "name": "sentiment",
        "version": "1.0.0",
        "kind": "text_classification",
        "signature": TextSignature(),
        "labels": tuple(estimator.classes_),
        "files": {MODEL_FILE: StoredFile(sha256=hashlib.sha256(archive).hexdigest(), bytes=len(archive))},
        "libraries": {},
        "trained_at": datetime.now(UTC),
        "metrics": {},
        "data": {},
        "golden": tuple(
            GoldenExample(input=text, prediction=answer.output, probabilities=answer.probabilities)
            for text, answer in zip(GOLDEN, answers, strict=True)
        ),
    }
    return Manifest(**(fields | changes))


def store(root: Path, estimator: Any) -> Path:
    """A store that serves `estimator` as the sentiment model."""
    archive = dumps(estimator)
    ModelStore(root).write(manifest_for(archive, estimator), {MODEL_FILE: archive})
    return root


def heavy() -> Pipeline:
    """Some 20 ms a prediction: it compares with 40,000 texts, in threads if it had its way."""
    draw = random.Random(1)
    words = [f"word{i}" for i in range(300)]
    texts = TEXTS + [" ".join(draw.choices(words, k=8)) for _ in range(40_000)]
    labels = LABELS + draw.choices(LABELS, k=40_000)
    return Pipeline(
        [
            ("vectorizer", TfidfVectorizer()),
            ("reduction", TruncatedSVD(n_components=64, random_state=0)),
            (
                "classifier",
                KNeighborsClassifier(n_neighbors=25, algorithm="brute", metric="cosine", n_jobs=2),
            ),
        ]
    ).fit(texts, labels)


def stuck() -> Pipeline:
    """Quick, but for `STUCK_TEXT`, on which it holds the interpreter lock for ages."""
    vectorizer = TfidfVectorizer(token_pattern=STUCK_PATTERN)
    return Pipeline([("vectorizer", vectorizer), ("classifier", LogisticRegression())]).fit(TEXTS, LABELS)


def light() -> Pipeline:
    """Compiles."""
    return Pipeline([("vectorizer", TfidfVectorizer()), ("classifier", LogisticRegression())]).fit(
        TEXTS, LABELS
    )
