"""Support vectors and nearest neighbours: arrays whose lengths compiled code takes on trust."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.sparse
from sklearn.neighbors import BallTree, KDTree

from falcon_wsgi.models.refusal import need

_KERNELS = ("linear", "poly", "rbf", "sigmoid")
_METRICS = (
    "euclidean",
    "l2",
    "sqeuclidean",
    "manhattan",
    "l1",
    "cityblock",
    "chebyshev",
    "minkowski",
    "cosine",
)


def _check_support_vectors(model: Any) -> None:
    need(
        model.kernel in _KERNELS,
        f"the kernel {model.kernel!r} is not supported; there are: {', '.join(_KERNELS)}",
    )
    vectors = model.support_vectors_
    need(
        vectors.ndim == 2 and vectors.shape[1] == model.n_features_in_,
        "the support vectors are of other features",
    )
    n_vectors = vectors.shape[0]
    n_classes = len(model.classes_) if hasattr(model, "classes_") else 2
    pairs = n_classes * (n_classes - 1) // 2
    need(n_classes >= 2, "there are no two classes")
    _check_vector(model.support_, n_vectors, "support_")
    _check_vector(model._intercept_, pairs, "_intercept_")
    _check_vector(model._n_support, n_classes, "_n_support")
    counts = model._n_support
    used = counts if hasattr(model, "classes_") else counts[:1]
    need(
        (counts >= 0).all() and int(used.sum()) == n_vectors,
        "_n_support does not add up to the support vectors",
    )
    for name in ("_probA", "_probB"):
        _check_vector(getattr(model, name), pairs if len(model._probA) else 0, name)
    need(
        bool(model._effective_probability) == bool(len(model._probA)), "there are no calibrated probabilities"
    )
    _check_coefficients(model, n_vectors, n_classes)


def _check_vector(value: Any, length: int, name: str) -> None:
    need(
        isinstance(value, np.ndarray) and value.shape == (length,) and value.dtype.kind in "if",
        f"{name} has not the length {length}",
    )


def _check_coefficients(model: Any, n_vectors: int, n_classes: int) -> None:
    coefficients = model._dual_coef_
    need(
        coefficients.shape == (n_classes - 1, n_vectors),
        "the coefficients are not those of the support vectors",
    )
    sparse = scipy.sparse.issparse(model.support_vectors_)
    need(
        sparse == scipy.sparse.issparse(coefficients) == bool(model._sparse),
        "some arrays are sparse, some are not",
    )
    if sparse:
        need(
            model.support_vectors_.format == coefficients.format == "csr", "the sparse arrays are not by rows"
        )
        stored = (n_classes - 1) * n_vectors
        need(coefficients.data.size == stored, "the coefficients are not stored one by one")


def _check_neighbours(model: Any) -> None:
    points, targets = model._fit_X, model._y
    need(
        points.ndim == 2 and points.shape[1] == model.n_features_in_,
        "the stored points are of other features",
    )
    need(points.shape[0] == model.n_samples_fit_ == len(targets), "there are not as many targets as points")
    need(1 <= model.n_neighbors <= len(targets), "n_neighbors is more than there are points")
    need(points.dtype.kind in "iufb", "the stored points are no numbers")
    need(model.weights in ("uniform", "distance"), "weights may be 'uniform' or 'distance'")
    for metric in (model.metric, model.effective_metric_):
        need(metric in _METRICS, f"the metric {metric!r} is not supported; there are: {', '.join(_METRICS)}")
    parameters = model.effective_metric_params_
    need(set(parameters) <= {"p"} and not model.metric_params, "the metric has parameters other than p")
    if hasattr(model, "classes_"):
        need(isinstance(model.classes_, np.ndarray), "there are several outputs; one is supported")
        need(
            targets.ndim == 1
            and targets.dtype.kind in "iu"
            and ((targets >= 0) & (targets < len(model.classes_))).all(),
            "a target is none of the classes",
        )
    plant = {"kd_tree": KDTree, "ball_tree": BallTree, "brute": None}[model._fit_method]
    if plant is not None:
        need(not scipy.sparse.issparse(points), "a search tree cannot hold sparse points")
        model._tree = plant(points, model.leaf_size, metric=model.effective_metric_, **parameters)


CHECKS: dict[str, Callable[[Any], None]] = {
    **{
        f"sklearn.svm._classes.{name}": _check_support_vectors
        for name in ("SVC", "NuSVC", "SVR", "NuSVR", "OneClassSVM")
    },
    "sklearn.neighbors._classification.KNeighborsClassifier": _check_neighbours,
    "sklearn.neighbors._regression.KNeighborsRegressor": _check_neighbours,
}
