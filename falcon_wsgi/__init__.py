"""Falcon serves scikit-learn models over HTTP from plain WSGI."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from falcon_wsgi.library import add_model

__all__ = ["__version__", "add_model"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """`add_model` on first use: it brings scikit-learn along, which the command line does not need."""
    if name != "add_model":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from falcon_wsgi.library import add_model

    return add_model
