"""Linear text pipelines as dictionary look-ups, without scikit-learn on the request's path.

A fitted `TfidfVectorizer` or `CountVectorizer` followed by a `LogisticRegression` scores one text as

    z_k = b_k + sum_i tf_i * idf_i * w_ki / norm

and only the few n-grams of the text contribute. Looking those up in a dict costs 10 to 20 microseconds for a
sentence where the pipeline's own `predict_proba` costs 500 and more, most of it in building sparse matrices.
The caller proves the result equal to scikit-learn's before it uses it (`predictor.build`).
"""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import repeat
from operator import mul
from typing import Any

import numpy as np
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline

Analyzer = Callable[[str], list[str]]


class NotCompilable(Exception):
    """The estimator is not of the supported form; it is served by scikit-learn itself."""


class CompiledLinearText:
    """Equivalent of `Pipeline([vectorizer, LogisticRegression]).predict_proba`.

    Weights are held by class in `array('d')`: eight bytes each, and no reference counts, so the pages stay
    shared between forked workers.
    """

    def __init__(self, pipeline: Any) -> None:
        """Raises NotCompilable where the pipeline has a step or parameter that is not covered."""
        vectorizer, classifier = _steps(pipeline)
        self.classes: list[Any] = classifier.classes_.tolist()
        self._grams = _analyzer(vectorizer)
        self._index: dict[str, int] = {gram: int(i) for gram, i in vectorizer.vocabulary_.items()}
        self._binary = bool(vectorizer.binary)
        self._sublinear = bool(getattr(vectorizer, "sublinear_tf", False))
        self._norm = getattr(vectorizer, "norm", None)
        scale = _idf(vectorizer)
        coefficients = np.asarray(classifier.coef_, dtype=np.float64) * scale
        self._columns = [array("d", row) for row in coefficients]
        self._intercepts = [float(b) for b in classifier.intercept_]
        self._scale = array("d", scale)
        self._squares = array("d", scale * scale)
        self._link = link_of(classifier)

    def scores(self, texts: Sequence[str]) -> list[list[float]]:
        """Class probabilities of each text, in the order of `classes`."""
        return list(map(self.probabilities, texts))

    def probabilities(self, text: str) -> list[float]:
        """Class probabilities in the order of `classes`."""
        hits = [i for i in map(self._index.get, self._grams(text)) if i is not None]
        weights: list[float] | None = None
        if len(set(hits)) != len(hits):
            counts = Counter(hits)
            hits = list(counts)
            weights = self._term_weights(counts.values())
        if weights is None:
            scale = 1.0 / self._length(hits) if hits else 1.0
            scores = [
                b + scale * sum(map(column.__getitem__, hits))
                for b, column in zip(self._intercepts, self._columns, strict=True)
            ]
        else:
            scale = 1.0 / self._weighted_length(hits, weights)
            scores = [
                b + scale * sum(map(mul, map(column.__getitem__, hits), weights))
                for b, column in zip(self._intercepts, self._columns, strict=True)
            ]
        return self._link(scores)

    def _term_weights(self, counts: Any) -> list[float]:
        if self._binary:
            return list(repeat(1.0, len(counts)))
        if self._sublinear:
            return [1.0 + math.log(n) for n in counts]
        return [float(n) for n in counts]

    def _length(self, hits: list[int]) -> float:
        if self._norm == "l2":
            return math.sqrt(sum(map(self._squares.__getitem__, hits))) or 1.0
        if self._norm == "l1":
            return sum(map(self._scale.__getitem__, hits)) or 1.0
        return 1.0

    def _weighted_length(self, hits: list[int], weights: list[float]) -> float:
        if self._norm == "l2":
            squared = map(mul, weights, weights)
            return math.sqrt(sum(map(mul, map(self._squares.__getitem__, hits), squared))) or 1.0
        if self._norm == "l1":
            return sum(map(mul, map(self._scale.__getitem__, hits), weights)) or 1.0
        return 1.0


def _steps(pipeline: Any) -> tuple[Any, Any]:
    if not isinstance(pipeline, Pipeline) or len(pipeline.steps) != 2:
        raise NotCompilable("not a pipeline of two steps")
    vectorizer, classifier = (step for _, step in pipeline.steps)
    # Subclasses may override anything, so the exact types are asked for.
    if type(vectorizer) not in (TfidfVectorizer, CountVectorizer):
        raise NotCompilable(f"{type(vectorizer).__name__} is not covered")
    if type(classifier) is not LogisticRegression:
        raise NotCompilable(f"{type(classifier).__name__} is not covered")
    return vectorizer, classifier


def _idf(vectorizer: Any) -> np.ndarray[Any, np.dtype[np.float64]]:
    if isinstance(vectorizer, TfidfVectorizer) and vectorizer.use_idf:
        return np.asarray(vectorizer.idf_, dtype=np.float64)
    return np.ones(len(vectorizer.vocabulary_))


def _analyzer(vectorizer: Any) -> Analyzer:
    """The n-grams of a text, as scikit-learn's own analyzer lists them, from its own tokenizer."""
    if vectorizer.analyzer != "word" or vectorizer.stop_words is not None:
        return vectorizer.build_analyzer()  # type: ignore[no-any-return]
    preprocess, tokenize = vectorizer.build_preprocessor(), vectorizer.build_tokenizer()
    shortest, longest = vectorizer.ngram_range
    identity = (
        not vectorizer.lowercase and vectorizer.strip_accents is None and vectorizer.preprocessor is None
    )

    def grams(text: str) -> list[str]:
        tokens: list[str] = tokenize(text if identity else preprocess(text))
        found = list(tokens) if shortest == 1 else []
        for n in range(max(shortest, 2), longest + 1):
            found += map(" ".join, zip(*(tokens[i:] for i in range(n)), strict=False))
        return found

    return grams


def link_of(classifier: Any) -> Callable[[list[float]], list[float]]:
    if len(classifier.classes_) == 2:
        return _two_class
    return _one_versus_rest if classifier.solver == "liblinear" else _softmax


def _logistic(z: float) -> float:
    if z >= 0:
        return 1.0 / (1.0 + math.exp(-z))
    e = math.exp(z)
    return e / (1.0 + e)


def _two_class(scores: list[float]) -> list[float]:
    p = _logistic(scores[0])
    return [1.0 - p, p]


def _one_versus_rest(scores: list[float]) -> list[float]:
    each = [_logistic(z) for z in scores]
    total = sum(each)
    return [p / total for p in each]


def _softmax(scores: Sequence[float]) -> list[float]:
    top = max(scores)
    each = [math.exp(z - top) for z in scores]
    total = sum(each)
    return [e / total for e in each]
