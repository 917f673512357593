"""Vocabularies as one array in a stored file instead of one node for each word.

skops writes a dictionary entry by entry: a vocabulary of 60,000 n-grams becomes 40 to 55 MB that take two to nine
seconds to load. As an array of the n-grams in the order of their columns it is a few hundred kB and 50 ms.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import FeatureUnion, Pipeline

# Where estimators hold their steps, as tuples that begin with a name and the step.
_STEPS = ((Pipeline, "steps"), (FeatureUnion, "transformer_list"), (ColumnTransformer, "transformers_"))


def pack(estimator: Any) -> Any:
    """A copy to be stored, in which each step's `vocabulary_` is an array. The estimator itself is not changed."""
    attribute = _steps_of(estimator)
    if attribute is None:
        return _pack_step(estimator)
    packed = copy.copy(estimator)
    setattr(
        packed, attribute, [(name, pack(step), *rest) for name, step, *rest in getattr(estimator, attribute)]
    )
    return packed


def unpack(estimator: Any) -> Any:
    """The inverse of `pack`, in place. Estimators that were never packed come back as they are."""
    attribute = _steps_of(estimator)
    if attribute is not None:
        for _, step, *_ in getattr(estimator, attribute):
            unpack(step)
    terms = getattr(estimator, "vocabulary_", None)
    if isinstance(terms, np.ndarray):
        estimator.vocabulary_ = {term: column for column, term in enumerate(terms.tolist())}
    return estimator


def _steps_of(estimator: Any) -> str | None:
    """The attribute with the fitted steps; None where there are none."""
    for kind, attribute in _STEPS:
        if isinstance(estimator, kind) and attribute in vars(estimator):
            return attribute
    return None


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
    if getattr(step, "fixed_vocabulary_", False) and getattr(step, "vocabulary", None) is not None:
        # The one that was given as a parameter, which scikit-learn takes as an array too; it stays one.
        packed.vocabulary = packed.vocabulary_
    return packed
