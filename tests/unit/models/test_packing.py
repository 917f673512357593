"""A packed pipeline loads as the same pipeline, from a much smaller file."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import FeatureUnion, Pipeline
from skops.io import dumps, loads

from falcon_wsgi.models.packing import pack, unpack

TEXTS = [f"word{i} common word{i % 7} \U0001f600 naïve" for i in range(200)]


@pytest.fixture
def pipeline() -> Pipeline:
    steps = [("v", TfidfVectorizer(ngram_range=(1, 2), max_features=300)), ("c", LogisticRegression())]
    return Pipeline(steps).fit(TEXTS, [i % 3 for i in range(200)])


def test_a_packed_pipeline_loads_as_the_same_pipeline(pipeline: Pipeline) -> None:
    loaded = unpack(loads(dumps(pack(pipeline)), trusted=[]))
    assert loaded.steps[0][1].vocabulary_ == pipeline.steps[0][1].vocabulary_
    assert np.array_equal(loaded.predict_proba(TEXTS), pipeline.predict_proba(TEXTS))


def test_packing_leaves_the_pipeline_itself_alone(pipeline: Pipeline) -> None:
    before = dict(pipeline.steps[0][1].vocabulary_)
    pack(pipeline)
    assert pipeline.steps[0][1].vocabulary_ == before


def test_the_file_is_much_smaller(pipeline: Pipeline) -> None:
    assert len(dumps(pack(pipeline))) * 3 < len(dumps(pipeline))


@pytest.mark.parametrize("given", [dict, list, set])
def test_a_vocabulary_that_was_given_is_packed_as_one_that_was_learned(
    pipeline: Pipeline, given: type
) -> None:
    terms = pipeline.steps[0][1].vocabulary_
    in_order = sorted(terms, key=terms.__getitem__)
    vocabulary = dict(terms) if given is dict else given(in_order)
    steps = [
        ("v", TfidfVectorizer(vocabulary=vocabulary, ngram_range=(1, 2))),
        ("c", LogisticRegression()),
    ]
    fixed = Pipeline(steps).fit(TEXTS, [i % 3 for i in range(200)])
    archive = dumps(pack(fixed))
    loaded = unpack(loads(archive, trusted=[]))
    assert fixed.steps[0][1].vocabulary is vocabulary
    assert loaded.steps[0][1].vocabulary_ == fixed.steps[0][1].vocabulary_
    assert np.array_equal(loaded.predict_proba(TEXTS), fixed.predict_proba(TEXTS))
    assert np.array_equal(
        clone(loaded).fit(TEXTS, [i % 3 for i in range(200)]).predict_proba(TEXTS), fixed.predict_proba(TEXTS)
    )
    assert len(archive) < 1.5 * len(dumps(pack(pipeline)))


def test_a_pipeline_that_was_never_packed_loads_too(pipeline: Pipeline) -> None:
    loaded = unpack(loads(dumps(pipeline), trusted=[]))
    assert np.array_equal(loaded.predict_proba(TEXTS), pipeline.predict_proba(TEXTS))


@pytest.mark.parametrize("vocabulary", [{"a": 0, "b": 2}, {"a\x00": 0, "b": 1}, {0: 0, 1: 1}])
def test_a_vocabulary_that_an_array_cannot_hold_is_stored_as_it_is(
    pipeline: Pipeline, vocabulary: dict
) -> None:
    pipeline.steps[0][1].vocabulary_ = vocabulary
    assert pack(pipeline).steps[0][1].vocabulary_ is vocabulary


def test_an_estimator_without_steps_is_stored_as_it_is() -> None:
    estimator = LogisticRegression()
    assert unpack(pack(estimator)) is estimator


def test_a_vocabulary_is_packed_wherever_steps_are_nested(pipeline: Pipeline) -> None:
    rows = np.array([[text, text] for text in TEXTS], dtype=object)
    columns = ColumnTransformer([("a", TfidfVectorizer(), 0), ("b", "drop", [1])])
    nested = Pipeline([("u", FeatureUnion([("c", columns)])), ("c", LogisticRegression())])
    nested.fit(rows, [i % 3 for i in range(200)])
    stored = dumps(pack(nested))
    assert len(stored) * 2 < len(dumps(nested))
    loaded = unpack(loads(stored, trusted=[]))
    assert np.array_equal(loaded.predict_proba(rows), nested.predict_proba(rows))
