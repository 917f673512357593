"""The versions of the libraries that a model was made with, and how they differ from those that are installed."""

from __future__ import annotations

import platform
import warnings
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version
from typing import TypeVar

from sklearn.exceptions import InconsistentVersionWarning

from falcon_wsgi.models.manifest import BOOSTER_FILES

Loaded = TypeVar("Loaded")

_LIBRARIES = ("scikit-learn", "skops", "numpy", "scipy")
_XGBOOST = ("xgboost-cpu", "xgboost")  # distributions of the same package
# The model's answers depend on these.
_DECISIVE = ("scikit-learn", "xgboost")


def installed(files: Iterable[str]) -> dict[str, str]:
    """What is installed here, by distribution, as far as a version with these files needs it."""
    found = {"python": platform.python_version()} | {name: installed_version(name) for name in _LIBRARIES}
    if BOOSTER_FILES & set(files):
        found["xgboost"] = next(filter(None, map(_version, _XGBOOST)), "none")
    return found


def skew(recorded: Mapping[str, str]) -> list[str]:
    """A line for each decisive library whose installed version differs in more than the patch number."""
    here = installed(BOOSTER_FILES if "xgboost" in recorded else ())
    return [
        f"it was made with {name} {recorded[name]}, {here[name]} is installed"
        for name in _DECISIVE
        if name in recorded and name in here and _minor(recorded[name]) != _minor(here[name])
    ]


def quietly(load: Callable[[], Loaded]) -> tuple[Loaded, str | None]:
    """What `load` returns, and the scikit-learn version that the estimator was fitted with, if it is another one.

    scikit-learn warns of that once for each estimator inside; a forest has hundreds.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", InconsistentVersionWarning)
        loaded = load()
    fitted_with = None
    for warning in caught:
        if isinstance(warning.message, InconsistentVersionWarning):
            fitted_with = str(warning.message.original_sklearn_version)
        else:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
    return loaded, fitted_with


def _version(distribution: str) -> str | None:
    try:
        return installed_version(distribution)
    except PackageNotFoundError:
        return None


def _minor(version: str) -> list[str]:
    return version.split(".")[:2]
