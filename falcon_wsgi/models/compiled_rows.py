"""Linear models of rows as plain arithmetic, without numpy on the request's path.

scikit-learn spends some 150 microseconds on checks and array building for one row, whatever the model; the arithmetic
of a linear model takes 2 to 10. A scaler before it is folded into the weights:

    z_k = b_k + sum_i w_ki * (x_i - m_i) / s_i = (b_k - sum_i w_ki * m_i / s_i) + sum_i (w_ki / s_i) * x_i

The caller proves the result equal to scikit-learn's before it uses it (`predictor.build`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import mul
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import (
    ElasticNet,
    Lasso,
    LinearRegression,
    LogisticRegression,
    Ridge,
)
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler, StandardScaler

from falcon_wsgi.models.compiled import NotCompilable, link_of
from falcon_wsgi.models.signature import BooleanField, NumberField, TabularSignature

_REGRESSORS = (LinearRegression, Ridge, Lasso, ElasticNet)
# Beyond this many multiplications numpy is quicker than a loop over Python floats.
_MOST_WEIGHTS = 2000

Row = Sequence[Any]
Array = NDArray[np.float64]


class CompiledLinearRows:
    """Equivalent of a pipeline of scalers and one linear model.

    `scores` gives each row's class probabilities in the order of the classes, or a regressor's one value.
    """

    one_by_one = True

    def __init__(self, estimator: Any, signature: TabularSignature) -> None:
        """Raises NotCompilable where a step, a parameter or a field is not covered."""
        if not all(
            isinstance(field, NumberField | BooleanField) and not field.nullable for field in signature.fields
        ):
            raise NotCompilable("a field may be missing or is no number")
        *scalers, model = (
            [step for _, step in estimator.steps] if isinstance(estimator, Pipeline) else [estimator]
        )
        weights, intercepts, self._link = _model(model)
        for scaler in reversed(scalers):
            slope, offset = _scaler(scaler)
            intercepts = intercepts + weights @ offset
            weights = weights * slope
        if weights.size > _MOST_WEIGHTS:
            raise NotCompilable(f"{weights.size} weights are quicker in numpy")
        self._terms = [(float(b), row.tolist()) for b, row in zip(intercepts, weights, strict=True)]

    def scores(self, rows: Sequence[Row]) -> list[list[float]]:
        return [self._link([b + sum(map(mul, weights, row)) for b, weights in self._terms]) for row in rows]


def _model(model: Any) -> tuple[Array, Array, Callable[[list[float]], list[float]]]:
    """Weights of shape (scores, fields), intercepts of shape (scores,), and what makes answers of scores."""
    # Subclasses may override anything, so the exact types are asked for.
    if type(model) is LogisticRegression:
        link = link_of(model)
    elif type(model) in _REGRESSORS:
        link = list
    else:
        raise NotCompilable(f"{type(model).__name__} is not covered")
    weights = np.atleast_2d(np.asarray(model.coef_, dtype=np.float64))
    intercepts = np.broadcast_to(np.asarray(model.intercept_, dtype=np.float64).ravel(), weights.shape[:1])
    return weights, intercepts, link


def _scaler(scaler: Any) -> tuple[Array, Array]:
    """slope and offset by field: the scaler gives slope * x + offset."""
    match scaler:
        case _ if type(scaler) is StandardScaler:
            slope = 1.0 / scaler.scale_ if scaler.with_std else np.ones(scaler.n_features_in_)
            return slope, -scaler.mean_ * slope if scaler.with_mean else np.zeros(scaler.n_features_in_)
        case _ if type(scaler) is MinMaxScaler and not scaler.clip:
            return scaler.scale_, scaler.min_
        case _ if type(scaler) is MaxAbsScaler and not getattr(scaler, "clip", False):
            return 1.0 / scaler.scale_, np.zeros(scaler.n_features_in_)
    raise NotCompilable(f"{type(scaler).__name__} is not covered")
