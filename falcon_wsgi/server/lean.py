"""Imports scikit-learn and skops without what a server does not need of them."""

from __future__ import annotations

import sys


def import_scikit_learn() -> None:
    """Import scikit-learn as if pandas were not installed, then skops.

    scikit-learn 1.9 imports pandas, with pyarrow some 60 MB, only to have the name (`sklearn.utils.fixes`); what works
    with data frames imports it by itself, and still can. Nothing happens where either is imported already.
    """
    if "sklearn" not in sys.modules and "pandas" not in sys.modules:
        # Makes the import fail as that of a missing package does.
        sys.modules["pandas"] = None  # type: ignore[assignment]
        try:
            import sklearn.utils.fixes  # noqa: F401
        finally:
            del sys.modules["pandas"]
    _import_skops()


def _import_skops() -> None:
    """Import skops without its list of every estimator of scikit-learn.

    To make it, skops imports every module of scikit-learn: 0.3 s and 11 MB. The list is what skops trusts of
    scikit-learn by itself; without it, it trusts what it is told to (`models.trusted_types`), which names each type
    that is loaded here.
    """
    import sklearn.utils

    listed = sklearn.utils.all_estimators
    sklearn.utils.all_estimators = list
    try:
        import skops.io  # noqa: F401
    finally:
        sklearn.utils.all_estimators = listed
