"""A model made with another scikit-learn is told of once, whatever it consists of."""

from __future__ import annotations

import warnings

import pytest
import sklearn
from sklearn.exceptions import InconsistentVersionWarning

from falcon_wsgi.models import libraries

HERE = libraries.installed(["model.skops"])


def test_libraries_of_a_skops_file_do_not_name_xgboost() -> None:
    assert HERE["scikit-learn"] == sklearn.__version__
    assert "xgboost" not in HERE
    assert libraries.installed(["model.ubj"])["xgboost"][0].isdigit()


def test_same_versions_are_no_skew() -> None:
    assert libraries.skew(HERE) == []
    assert libraries.skew({}) == []


def test_other_patch_number_is_no_skew_but_another_minor_one_is() -> None:
    major, minor, *_ = sklearn.__version__.split(".")
    assert libraries.skew({"scikit-learn": f"{major}.{minor}.999"}) == []
    assert libraries.skew({"scikit-learn": "0.24.1"}) == [
        f"it was made with scikit-learn 0.24.1, {sklearn.__version__} is installed"
    ]


def test_warnings_of_each_estimator_become_one_version() -> None:
    def load() -> str:
        for name in ("Pipeline", "Tree", "Tree"):
            warnings.warn(
                InconsistentVersionWarning(
                    estimator_name=name, current_sklearn_version="2.0", original_sklearn_version="1.2.0"
                ),
                stacklevel=1,
            )
        return "loaded"

    assert libraries.quietly(load) == ("loaded", "1.2.0")


def test_other_warnings_of_a_load_are_not_swallowed() -> None:
    def load() -> None:
        warnings.warn("something else", UserWarning, stacklevel=1)

    with pytest.warns(UserWarning, match="something else"):
        libraries.quietly(load)
