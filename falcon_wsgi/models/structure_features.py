"""Transformers whose output is laid out by stored numbers: columns of sparse matrices, splines, empty arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import BSpline
from sklearn.preprocessing import PolynomialFeatures

from falcon_wsgi.models.refusal import need

_MOST_FEATURES = 2**31 - 1
_MAX_DEGREE = 64


def _check_vectorizer(vectorizer: Any) -> None:
    _check_reading(vectorizer)
    if "vocabulary_" in vars(vectorizer):
        _check_columns(vectorizer.vocabulary_)


def _check_dictionary_vectorizer(vectorizer: Any) -> None:
    _check_columns(vectorizer.vocabulary_)


def _check_columns(vocabulary: Any) -> None:
    """Columns go into sparse matrices as they are."""
    need(isinstance(vocabulary, Mapping), "a vocabulary is none")
    columns = list(vocabulary.values())
    need(
        all(type(column) is int for column in columns),
        "a vocabulary numbers its terms by something else than ints",
    )
    need(sorted(columns) == list(range(len(columns))), "a vocabulary's columns are out of range or repeated")


def _check_hashing(vectorizer: Any) -> None:
    _check_reading(vectorizer)
    width = vectorizer.n_features
    need(type(width) is int and 1 <= width <= _MOST_FEATURES, f"hashing into {width!r} columns")


def _check_reading(vectorizer: Any) -> None:
    """With any other `input` the text of a request is taken for the name of a file on the server.

    scikit-learn checks the lengths of n-grams only while it fits; below zero it counts up to them for minutes.
    """
    need(vectorizer.input == "content", f"a vectorizer with input={vectorizer.input!r} reads files")
    shortest, longest = vectorizer.ngram_range
    need(type(shortest) is type(longest) is int and 1 <= shortest <= longest, "n-grams have no such lengths")


def _check_one_hot(encoder: Any) -> None:
    widths = [_check_categories(categories) for categories in encoder.categories_]
    if encoder._infrequent_enabled:
        mappings = encoder._default_to_infrequent_mappings
        groups = encoder._infrequent_indices
        need(
            len(mappings) == len(groups) == len(widths), "the groups of rare categories are of other features"
        )
        widths = [_grouped(*each) for each in zip(widths, mappings, groups, strict=True)]
    dropped = encoder._drop_idx_after_grouping
    if dropped is not None:
        need(np.shape(dropped) == (len(widths),), "the dropped categories are of other features")
        for feature, index in enumerate(dropped):
            if index is not None:
                need(0 <= index < widths[feature], "a dropped category is out of range")
                widths[feature] -= 1
    need(len(widths) == encoder.n_features_in_, "the categories are of other features")
    need(encoder._n_features_outs == widths, "an encoder's columns are not as many as its categories")


def _check_categories(categories: Any) -> int:
    """How many there are. Numbers are looked up by bisection, so they must be sorted; NaN may come last."""
    need(isinstance(categories, np.ndarray) and categories.ndim == 1, "a feature's categories are no list")
    if categories.dtype.kind in "biufmM" and categories.size:
        known = categories[:-1] if categories.dtype.kind == "f" and np.isnan(categories[-1]) else categories
        need((known[1:] > known[:-1]).all(), "a feature's categories are not sorted")
        need(
            categories.dtype.kind != "f" or not np.isnan(known).any(), "a feature's categories are not sorted"
        )
    return len(categories)


def _grouped(width: int, mapping: NDArray[Any] | None, rare: NDArray[Any] | None) -> int:
    """Columns of a feature whose rare categories share one."""
    if mapping is None:
        need(rare is None, "a group of rare categories has no column")
        return width
    need(
        rare is not None and ((rare >= 0) & (rare < width)).all() and rare.size,
        "a rare category is out of range",
    )
    need(mapping.shape == (width,) and mapping.dtype.kind in "iu", "categories are not grouped one by one")
    columns = np.unique(mapping)
    need(np.array_equal(columns, np.arange(len(columns))), "categories are grouped into columns out of range")
    return len(columns)


def _check_polynomial(transformer: Any) -> None:
    """Its output begins as uninitialised memory of the stored width."""
    degree = transformer.degree
    low, high = (0, degree) if isinstance(degree, int) else degree
    need(0 <= low <= high <= _MAX_DEGREE, f"a degree is outside 0 to {_MAX_DEGREE}")
    need((transformer._min_degree, transformer._max_degree) == (low, high), "the degrees do not agree")
    for name, lowest in (("_n_out_full", 0), ("n_output_features_", low)):
        width = PolynomialFeatures._num_combinations(
            n_features=transformer.n_features_in_,
            min_degree=lowest,
            max_degree=high,
            interaction_only=transformer.interaction_only,
            include_bias=transformer.include_bias,
        )
        need(getattr(transformer, name) == width, f"PolynomialFeatures.{name} is not {width}")


def _check_target_encoder(encoder: Any) -> None:
    """Its output begins as uninitialised memory, one column for each encoding."""
    outputs = len(encoder.classes_) if encoder.target_type_ == "multiclass" else 1
    n_features = encoder.n_features_in_
    need(len(encoder.categories_) == n_features, "the categories are of other features")
    need(
        len(encoder.encodings_) == n_features * outputs,
        "an encoder's columns are not as many as its encodings",
    )


def _check_splines(transformer: Any) -> None:
    """Made anew from knots and coefficients by scipy's constructor, which compares their lengths."""
    splines = [
        BSpline(vars(spline)["_t"], vars(spline)["_c"], spline.k, extrapolate=spline.extrapolate, axis=0)
        for spline in transformer.bsplines_
    ]
    need(len(splines) == transformer.n_features_in_, "the splines are of other features")
    need(
        len({spline.c.shape for spline in splines}) == 1 and splines[0].c.ndim == 2,
        "the splines differ in shape",
    )
    need(all(spline.k == transformer.degree for spline in splines), "the splines are of another degree")
    transformer.bsplines_ = splines


_TEXT = "sklearn.feature_extraction.text"

# These work without having been fitted.
STATELESS = {f"{_TEXT}.{name}" for name in ("CountVectorizer", "TfidfVectorizer", "HashingVectorizer")}

CHECKS: dict[str, Callable[[Any], None]] = {
    f"{_TEXT}.CountVectorizer": _check_vectorizer,
    f"{_TEXT}.TfidfVectorizer": _check_vectorizer,
    f"{_TEXT}.HashingVectorizer": _check_hashing,
    "sklearn.feature_extraction._dict_vectorizer.DictVectorizer": _check_dictionary_vectorizer,
    "sklearn.preprocessing._encoders.OneHotEncoder": _check_one_hot,
    "sklearn.preprocessing._target_encoder.TargetEncoder": _check_target_encoder,
    "sklearn.preprocessing._polynomial.PolynomialFeatures": _check_polynomial,
    "sklearn.preprocessing._polynomial.SplineTransformer": _check_splines,
}
