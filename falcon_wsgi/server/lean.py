"""Keeps pandas out of a server's memory until a model needs it."""

from __future__ import annotations

import sys


def import_scikit_learn() -> None:
    """Import scikit-learn as if pandas were not installed.

    scikit-learn 1.9 imports pandas, with pyarrow some 60 MB, only to have the name (`sklearn.utils.fixes`); what works
    with data frames imports it by itself, and still can. Nothing happens where either is imported already.
    """
    if "sklearn" in sys.modules or "pandas" in sys.modules:
        return
    # Makes the import fail as that of a missing package does.
    sys.modules["pandas"] = None  # type: ignore[assignment]
    try:
        import sklearn.utils.fixes  # noqa: F401
    finally:
        del sys.modules["pandas"]
