"""Whether a loaded estimator is what fitting could have made of it, before it predicts anything.

Compiled code of scikit-learn and scipy follows node numbers, labels, column numbers and array lengths without
comparing them with the size of the memory that they point into. A file can hold any numbers, so each such number
is compared here. Estimators that only compute with numpy need no more than that nothing in them stands in the
place of a method; whatever else is wrong with them, numpy raises.
"""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import scipy.sparse
from sklearn.base import BaseEstimator
from sklearn.tree._tree import Tree
from sklearn.utils.validation import check_array

from falcon_wsgi.models import structure_features, structure_kernels, structure_trees
from falcon_wsgi.models.refusal import Refused, need
from falcon_wsgi.models.trusted_types import BY_LOADER, TRUSTED

Check = Callable[[Any], None]

_MERSENNE_TWISTER_WORDS = 624

_CHECKS: dict[str, Check] = {
    **structure_trees.CHECKS,
    **structure_kernels.CHECKS,
    **structure_features.CHECKS,
}
_ATOMS = (str, int, float, bool, type(None), np.generic, np.dtype, slice, type, np.ufunc, Tree)
_FUNCTIONS = (types.FunctionType, types.BuiltinFunctionType, type(np.clip))
# Made by IsotonicRegression itself while it is loaded, from arrays that numpy checks.
_DERIVED = {"scipy.interpolate._interpolate.interp1d"}


def check(estimator: Any) -> None:
    """Go through everything that the estimator consists of.

    Search trees of nearest neighbours and splines are made anew; `n_jobs` and `verbose` are set to one job and
    silence, because the workers already share out the cores.

    Raises:
        Refused: what is out of range or out of place.
        ValueError, LookupError, TypeError, AttributeError, ArithmeticError: parts are missing or do not fit.
    """
    _Walk().visit(estimator)


class _Walk:
    def __init__(self) -> None:
        self._seen: dict[int, Any] = {}

    def visit(self, value: Any) -> None:
        """Parts come before the whole: a check may use what the parts have been found to be."""
        if isinstance(value, _ATOMS) or id(value) in self._seen:
            return
        self._seen[id(value)] = value
        if isinstance(value, dict):
            self._visit_all(value.keys())
            self._visit_all(value.values())
        elif isinstance(value, list | tuple | set):
            self._visit_all(value)
        elif type(value) is np.ndarray:
            if value.dtype.hasobject:
                self._visit_all(value.ravel().tolist())
        elif scipy.sparse.issparse(value):
            _check_matrix(value)
        elif isinstance(value, np.random.RandomState):
            _check_random_state(value)
        elif isinstance(value, functools.partial):
            need(value.func is check_array and not value.args, f"it holds a partial {value.func!r}")
            self.visit(value.keywords)
        elif not isinstance(value, _FUNCTIONS):
            self._visit_object(value)

    def _visit_all(self, values: Iterable[Any]) -> None:
        for value in values:
            self.visit(value)

    def _visit_object(self, value: Any) -> None:
        name = _name(value)
        if name not in BY_LOADER["ObjectNode"]:
            need(name in _DERIVED or name in TRUSTED, f"it holds a {name} where none belongs")
            return
        attributes = vars(value)
        _check_names(value, attributes)
        for attribute in attributes.values():
            self.visit(attribute)
        _keep_to_one_job(attributes)
        if name in _CHECKS and (_is_fitted(attributes) or name in structure_features.STATELESS):
            _CHECKS[name](value)


def _name(value: Any) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"


def _is_fitted(attributes: dict[str, Any]) -> bool:
    """scikit-learn's own rule: what it does not hold for fitted, it does not let predict."""
    return any(name.endswith("_") and not name.startswith("__") for name in attributes)


def _check_names(value: Any, attributes: dict[str, Any]) -> None:
    """An attribute of the instance under the name of a method would be called in its place."""
    parameters = inspect.signature(type(value)).parameters if isinstance(value, BaseEstimator) else {}
    for name in attributes:
        need(
            name in parameters or inspect.getattr_static(type(value), name, None) is None,
            f"{type(value).__name__}.{name} stands in the place of a part of the class",
        )


def _keep_to_one_job(attributes: dict[str, Any]) -> None:
    for name, quiet in (("n_jobs", 1), ("verbose", 0)):
        if name in attributes:
            attributes[name] = quiet


def _check_matrix(matrix: Any) -> None:
    if matrix.format not in ("csr", "csc"):
        raise Refused(f"it holds a sparse matrix in the form {matrix.format}")
    try:
        matrix.check_format(full_check=True)
    except ValueError as error:
        raise Refused(f"a sparse matrix does not hold together: {error}") from error


def _check_random_state(state: np.random.RandomState) -> None:
    position = state.get_state(legacy=False)["state"]["pos"]
    need(0 <= position <= _MERSENNE_TWISTER_WORDS, f"a random state points at its word {position}")
