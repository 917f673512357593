"""The allow-list names things that exist, each once, and nothing that reaches outside of the process."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pytest
from scipy.interpolate import BSpline
from sklearn.base import BaseEstimator

from falcon_wsgi.models import trusted_types


def object_named(name: str) -> Any:
    module, _, attribute = name.rpartition(".")
    return getattr(importlib.import_module(module), attribute)


@pytest.mark.parametrize("name", sorted({*trusted_types.TRUSTED, *trusted_types.LEFT_OUT}))
def test_every_name_exists(name: str) -> None:
    assert object_named(name) is not None


def test_nothing_is_both_trusted_and_left_out() -> None:
    assert not trusted_types.LEFT_OUT & set(trusted_types.TRUSTED)


def test_a_type_of_instances_is_never_a_function_that_may_be_called() -> None:
    assert not trusted_types.FUNCTIONS & trusted_types.BY_LOADER["TypeNode"]
    assert not trusted_types.FUNCTIONS & trusted_types.BY_LOADER["ObjectNode"]


def test_functions_of_numpy_take_arrays_and_give_arrays() -> None:
    for name in trusted_types.FUNCTIONS:
        if name.startswith("numpy.") and name != "numpy.clip":
            with np.errstate(all="ignore"):
                values = object_named(name)(np.array([[0.1, 0.2]]))
            assert isinstance(values, np.ndarray)


def test_estimators_are_estimators() -> None:
    parts = {"_BinMapper", "TreePredictor", "_CalibratedClassifier", BSpline.__name__}
    for name in trusted_types.ESTIMATORS:
        kind = object_named(name)
        assert issubclass(kind, BaseEstimator) or kind.__name__ in parts, name
