"""Vocabularies as one array in a stored file instead of one node for each word.

skops writes a dictionary entry by entry: a vocabulary of 60,000 n-grams becomes 40 to 55 MB that take two to nine
seconds to load. As an array of the n-grams in the order of their columns it is a few hundred kB and 50 ms.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
from sklearn.pipeline import Pipeline


def pack(estimator: Any) -> Any:
    """A copy to be stored, in which each step's `vocabulary_` is an array. The estimator itself is not changed."""
    if not isinstance(estimator, Pipeline):
        return estimator
    packed = copy.copy(estimator)
    packed.steps = [(name, _pack_step(step)) for name, step in estimator.steps]
    return packed


def unpack(estimator: Any) -> Any:
    """The inverse of `pack`, in place. Estimators that were never packed come back as they are."""
    if isinstance(estimator, Pipeline):
        for _, step in estimator.steps:
            terms = getattr(step, "vocabulary_", None)
            if isinstance(terms, np.ndarray):
                step.vocabulary_ = {term: column for column, term in enumerate(terms.tolist())}
    return estimator


def _pack_step(step: Any) -> Any:
    vocabulary = getattr(step, "vocabulary_", None)
    if not isinstance(vocabulary, dict) or not all(isinstance(term, str) for term in vocabulary):
        return step
    columns = sorted(int(column) for column in vocabulary.values())
    # numpy strips trailing U+0000 from strings, and columns must be 0..n-1 to be given by position.
    if columns != list(range(len(columns))) or any(term.endswith("\x00") for term in vocabulary):
        return step
    packed = copy.copy(step)
    packed.vocabulary_ = np.array(sorted(vocabulary, key=vocabulary.__getitem__))
    return packed
