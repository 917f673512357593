"""The models that all systems serve, and what each answer has to be: the estimator's own, asked directly."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from falcon_wsgi import resources
from falcon_wsgi.models import loading
from falcon_wsgi.models.estimators import forget_column_names, keep_to_one_thread
from falcon_wsgi.models.forms import TabularForm, form_of
from falcon_wsgi.models.manifest import Manifest
from falcon_wsgi.models.matrix import matrix_of
from falcon_wsgi.models.prediction import label_text
from falcon_wsgi.models.store import ModelStore
from falcon_wsgi.models.training import train

NAMES = ("sentiment", "iris", "performance")
# XGBoost counts in float32.
WITHIN = {"sentiment": 1e-9, "iris": 1e-9, "performance": 1e-6}


@dataclass(frozen=True)
class Answer:
    """One prediction: the label and each label's probability, by the label's text."""

    label: str
    probabilities: Mapping[str, float]

    def equals(self, other: Answer, within: float) -> bool:
        return (
            self.label == other.label
            and self.probabilities.keys() == other.probabilities.keys()
            and all(
                math.fabs(p - other.probabilities[key]) <= within for key, p in self.probabilities.items()
            )
        )


class DirectModel:
    """The stored estimator, loaded and asked as it is: `predict_proba` and nothing around it."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.manifest = manifest
        self.labels = [label_text(label) for label in manifest.labels]
        self._estimator = loading.load_estimator(folder, manifest)
        keep_to_one_thread(self._estimator)
        forget_column_names(self._estimator)
        self._form = form_of(manifest.signature)
        self._matrix = matrix_of(manifest.signature)

    def probabilities(self, inputs: Sequence[Any]) -> list[list[float]]:
        """Of texts, or of rows with their values in the order of the signature."""
        rows: list[list[float]] = self._estimator.predict_proba(self._matrix(inputs)).tolist()
        return rows

    def answers(self, inputs: Sequence[Any]) -> list[Answer]:
        """For texts, or for rows as JSON objects."""
        if isinstance(self._form, TabularForm):
            inputs = [tuple(row[name] for name in self._form.names) for row in inputs]
        return [self._answer(row) for row in self.probabilities(inputs)]

    def _answer(self, row: list[float]) -> Answer:
        label = self.labels[row.index(max(row))]
        return Answer(label, dict(zip(self.labels, row, strict=True)))


def load(store: Path, name: str) -> DirectModel:
    models = ModelStore(store)
    version = models.current(name)
    return DirectModel(models.folder(name) / version, models.manifest(name, version))


def prepared_store(folder: Path) -> Path:
    """A store below `folder` with the project's own models, trained where it is not there yet."""
    store = folder / f"store-{_recipes_digest()}"
    for name in NAMES:
        if not ModelStore(store).versions(name):
            train(name, None, store, lambda stage, fraction: None)
    return store


def _recipes_digest() -> str:
    digest = hashlib.sha256()
    for path in sorted(resources.RECIPES.glob("*/recipe.py")) + sorted(resources.RECIPES.glob("*/data/*")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]
