"""Falcon serves scikit-learn models over HTTP from plain WSGI."""

__version__ = "0.1.0"
