"""Trains the iris model: the species of an iris from four measurements.

The data is Fisher's (1936, doi:10.1111/j.1469-1809.1936.tb02137.x), which scikit-learn brings along. Classes are the
data set's own numbers: 0 setosa, 1 versicolor, 2 virginica.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from pathlib import Path

from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, f1_score
from sklearn.model_selection import train_test_split
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from falcon_wsgi.errors import TrainingDataInvalid
from falcon_wsgi.models.recipe import Trained
from falcon_wsgi.models.signature import NumberField, TabularSignature

VERSION = "1.0.0"
SEED = 1936
FIELDS = ("sepal_length", "sepal_width", "petal_length", "petal_width")
GOLDEN_INPUTS = tuple(
    dict(zip(FIELDS, row, strict=True))
    for row in ((5.1, 3.5, 1.4, 0.2), (6.0, 2.9, 4.5, 1.5), (6.9, 3.1, 5.4, 2.1))
)


def train(data: Path | None, progress: Callable[[str, float], None]) -> Trained:
    """Fit on the whole data set; the metrics are of a fifth that a first fit was not shown.

    Raises:
        TrainingDataInvalid: `data` is given; the recipe has its own.
    """
    if data is not None:
        raise TrainingDataInvalid("the iris recipe trains on its own data; add a model of yours instead")
    started = time.perf_counter()
    progress("reading the data", 0.0)
    iris = load_iris()
    kept, held_out, kept_y, held_out_y = train_test_split(
        iris.data, iris.target, test_size=0.2, stratify=iris.target, random_state=SEED
    )
    progress("fitting", 0.2)
    answers = _pipeline().fit(kept, kept_y).predict(held_out)
    estimator = _pipeline().fit(iris.data, iris.target)
    progress("done", 1.0)
    return Trained(
        estimator=estimator,
        kind="tabular_classification",
        labels=(0, 1, 2),
        metrics={
            "accuracy": round(float(accuracy_score(held_out_y, answers)), 4),
            "macro_f1": round(float(f1_score(held_out_y, answers, average="macro")), 4),
            "seconds": round(time.perf_counter() - started, 2),
        },
        golden_inputs=GOLDEN_INPUTS,
        data={
            "name": "Fisher's iris data, as in scikit-learn",
            "rows": len(iris.data),
            "licence": "CC BY 4.0 (UCI Machine Learning Repository, doi:10.24432/C56C76)",
            "sha256": hashlib.sha256(iris.data.tobytes() + iris.target.tobytes()).hexdigest(),
            "classes": {str(i): str(name) for i, name in enumerate(iris.target_names)},
        },
        signature=TabularSignature(
            fields=tuple(
                NumberField(
                    name=name,
                    type="number",
                    minimum=0,
                    maximum=100,
                    description=f"{name.replace('_', ' ').capitalize()} in centimetres.",
                )
                for name in FIELDS
            )
        ),
    )


def _pipeline() -> Pipeline:
    return Pipeline([("scale", StandardScaler()), ("classify", LogisticRegression(max_iter=1000))])
