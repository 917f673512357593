"""Linear text pipelines as a table of weights, without scikit-learn on the request's path.

A fitted `TfidfVectorizer` or `CountVectorizer` followed by a `LogisticRegression` scores one text as

    z_k = b_k + sum_i tf_i * idf_i * w_ki / norm

and only the few n-grams of the text contribute. Taking those from a table costs some 10 microseconds for a
sentence where the pipeline's own `predict_proba` costs 500 and more, most of it in building sparse matrices.
The caller proves the result equal to scikit-learn's before it uses it (`predictor.build`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from math import exp, log, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline

from falcon_wsgi.models.grams import grams_of

Link = Callable[[list[float]], list[float]]
Array = NDArray[np.float64]

# From so many texts on, numpy is quicker for what is left to do once the sums are there: 25 us less for 50 texts.
_MANY = 6
# So few rows are multiplied as a whole sooner than in places: 3 us less for a sentence that repeats words.
_FEW_ROWS = 256

_USUAL_OCCURRENCES = 64
_FIRST = np.zeros(1, dtype=np.intp)


class NotCompilable(Exception):
    """The estimator is not of the supported form; it is served by scikit-learn itself."""


class CompiledLinearText:
    """Equivalent of `Pipeline([vectorizer, LogisticRegression]).predict_proba`.

    A text's answer is the same to the last bit, whichever texts it is asked for with.
    """

    one_by_one = True

    def __init__(self, pipeline: Any) -> None:
        """Raises NotCompilable where the pipeline has a step or parameter that is not covered."""
        vectorizer, classifier = _steps(pipeline)
        self.classes: list[Any] = classifier.classes_.tolist()
        self._find, rows = grams_of(vectorizer)
        self._norm = getattr(vectorizer, "norm", None)
        self._binary = bool(vectorizer.binary)
        self._sublinear = bool(getattr(vectorizer, "sublinear_tf", False))
        # Where all is linear in the counts, an n-gram that occurs twice may as well stand there twice.
        self._counted = self._binary or self._sublinear or self._norm == "l2"
        # By n-gram, counted from 1: w_k * idf for each class, and what the n-gram adds to the norm; else zeros.
        # An array has no reference counts, so its pages stay shared between forked workers.
        idf = _idf(vectorizer)
        self._table = np.zeros((rows + 1, len(classifier.coef_) + 1))
        own = self._table[1 : len(idf) + 1]
        own[:, :-1] = np.transpose(classifier.coef_ * idf)
        if self._norm:
            own[:, -1] = idf * idf if self._norm == "l2" else idf
        self._factors = self._factors_below(_USUAL_OCCURRENCES)
        self._offsets = np.asarray(classifier.intercept_, dtype=np.float64)
        self._intercepts = [float(b) for b in classifier.intercept_]
        self._link = link_of(classifier)

    def scores(self, texts: Sequence[str]) -> list[list[float]]:
        """Class probabilities of each text, in the order of `classes`."""
        rows: list[int] = []
        repeated: list[int] = []  # indexes in `rows` of n-grams that occur several times in their text,
        occurrences: list[int] = []  # and how often
        starts: list[int] = []
        for found in self._find(texts):
            starts.append(len(rows))
            rows.append(0)  # so that a text without a known n-gram has a sum too
            if not self._counted or len(found) == len(set(found)):
                rows += found
            elif self._binary:
                rows += set(found)
            else:
                counts = Counter(found)
                repeated += [place for place, n in enumerate(counts.values(), len(rows)) if n > 1]
                occurrences += [n for n in counts.values() if n > 1]
                rows += counts
        terms = self._table.take(rows, axis=0)
        if repeated and len(rows) > _FEW_ROWS:
            terms[repeated] *= self._factors_of(occurrences)
        elif repeated:
            each = [1] * len(rows)
            for place, n in zip(repeated, occurrences, strict=True):
                each[place] = n
            terms *= self._factors_of(each)
        # Not `sum`, for one text either: it would add in another order.
        sums = np.add.reduceat(terms, starts if len(starts) > 1 else _FIRST)
        return list(map(self._probabilities, sums.tolist())) if len(texts) < _MANY else self._of_many(sums)

    def probabilities(self, text: str) -> list[float]:
        """Class probabilities in the order of `classes`."""
        return self.scores([text])[0]

    def _factors_of(self, occurrences: list[int]) -> Array:
        """What the rows of n-grams that occur so often are multiplied with."""
        most = max(occurrences)
        if most >= len(self._factors):
            self._factors = self._factors_below(2 * most)
        return self._factors.take(occurrences, axis=0)

    def _factors_below(self, end: int) -> Array:
        counts = range(1, end)
        frequencies = np.array([0.0, *(1.0 + log(n) if self._sublinear else n for n in counts)])
        factors = np.repeat(frequencies[:, None], self._table.shape[1], axis=1)
        if self._norm == "l2":
            factors[:, -1] *= frequencies
        return factors

    def _probabilities(self, sums: list[float]) -> list[float]:
        norm = sums[-1]
        scale = 1.0
        if norm:
            scale = 1.0 / (sqrt(norm) if self._norm == "l2" else norm)
        return self._link([b + scale * z for b, z in zip(self._intercepts, sums)])  # noqa: B905 - the norm is last

    def _of_many(self, sums: Array) -> list[list[float]]:
        """`_probabilities` of each row, by the same operations in the same order, so to the same bits."""
        scores, norms = sums[:, :-1], sums[:, -1:]
        if self._norm:
            lengths = np.sqrt(norms) if self._norm == "l2" else norms
            scores = scores * np.divide(1.0, lengths, out=np.ones_like(norms), where=norms != 0.0)
        scores = scores + self._offsets
        return _softmaxes(scores) if self._link is _softmax else list(map(self._link, scores.tolist()))


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


def _idf(vectorizer: Any) -> Array:
    if isinstance(vectorizer, TfidfVectorizer) and vectorizer.use_idf:
        return np.asarray(vectorizer.idf_, dtype=np.float64)
    return np.ones(len(vectorizer.vocabulary_))


def link_of(classifier: Any) -> Link:
    return _two_class if len(classifier.classes_) == 2 else _softmax


def _logistic(z: float) -> float:
    if z >= 0:
        return 1.0 / (1.0 + exp(-z))
    e = exp(z)
    return e / (1.0 + e)


def _two_class(scores: list[float]) -> list[float]:
    p = _logistic(scores[0])
    return [1.0 - p, p]


def _softmax(scores: Sequence[float]) -> list[float]:
    top = max(scores)
    each = [exp(z - top) for z in scores]
    total = sum(each)
    return [e / total for e in each]


def _softmaxes(scores: Array) -> list[list[float]]:
    """`_softmax` of each row. numpy's own `exp` and `sum` may differ from Python's in the last bit."""
    each = map(exp, (scores - scores.max(axis=1, keepdims=True)).ravel().tolist())
    rows = zip(*[each] * scores.shape[1], strict=True)
    return [[e / total for e in row] for row in rows if (total := sum(row))]
