"""Fitted estimators and those inside them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sklearn.base import BaseEstimator


def nested(estimator: Any) -> Iterator[Any]:
    """The estimator and each one that it holds, in an attribute or in a list, tuple or dict there; each once."""
    seen: set[int] = set()
    pending = [estimator]
    while pending:
        value = pending.pop()
        if isinstance(value, list | tuple):
            pending.extend(value)
        elif isinstance(value, dict):
            pending.extend(value.values())
        elif _is_of_sklearn(value) and id(value) not in seen:
            seen.add(id(value))
            pending.extend(vars(value).values())
            if isinstance(value, BaseEstimator):
                yield value


def _is_of_sklearn(value: Any) -> bool:
    """Some of its classes hold estimators without being one: the parts of a CalibratedClassifierCV."""
    return isinstance(value, BaseEstimator) or (
        type(value).__module__.startswith("sklearn.") and hasattr(value, "__dict__")
    )


def keep_to_one_thread(estimator: Any) -> None:
    """The workers already share out the cores; threads and processes of the model's own would fight with them."""
    for each in nested(estimator):
        if getattr(each, "n_jobs", None) is not None:
            each.n_jobs = 1


def forget_column_names(estimator: Any) -> None:
    """Let an estimator that was fitted on a data frame take arrays; it would warn at each call."""
    for each in nested(estimator):
        vars(each).pop("feature_names_in_", None)
