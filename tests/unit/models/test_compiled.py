"""The compiled form answers as scikit-learn does, for every parameter that it covers, and refuses the rest."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.feature_extraction.text import CountVectorizer, HashingVectorizer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import MultinomialNB
from sklearn.pipeline import Pipeline

from falcon_wsgi.models.compiled import CompiledLinearText, NotCompilable
from falcon_wsgi.models.negation import tokenize

WORDS = ["good", "bad", "not", "very", "food", "service", "the", "slow", "great", "awful", "table", "tuesday"]
TEXTS = [
    " ".join(WORDS[(i * k + j) % len(WORDS)] for j in range(2 + i % 5)) for k in (1, 5) for i in range(12)
]
TWO = ["a" if i % 2 else "b" for i in range(len(TEXTS))]
THREE = ["neg" if i % 3 == 0 else "neu" if i % 3 == 1 else "pos" for i in range(len(TEXTS))]

text = st.one_of(
    st.lists(st.sampled_from([*WORDS, "unseen", "GOOD", "good!"]), max_size=30).map(" ".join),
    st.text(max_size=60),
)


def fitted(vectorizer, labels, **parameters) -> Pipeline:
    pipeline = Pipeline([("v", vectorizer), ("c", LogisticRegression(max_iter=500, **parameters))])
    return pipeline.fit(TEXTS, labels)


VECTORIZERS = {
    "tfidf": TfidfVectorizer,
    "bigrams": lambda: TfidfVectorizer(ngram_range=(1, 2)),
    "bigrams and trigrams": lambda: TfidfVectorizer(ngram_range=(2, 3), sublinear_tf=True),
    "words that only bigrams know": lambda: TfidfVectorizer(
        ngram_range=(1, 2), vocabulary=["good", "not good", "food service", "slow great"]
    ),
    "trigrams only": lambda: TfidfVectorizer(ngram_range=(3, 3)),
    "sublinear": lambda: TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2)),
    "sublinear l1": lambda: TfidfVectorizer(sublinear_tf=True, norm="l1"),
    "sublinear, no norm": lambda: TfidfVectorizer(sublinear_tf=True, norm=None),
    "l1": lambda: TfidfVectorizer(norm="l1"),
    "no norm": lambda: TfidfVectorizer(norm=None),
    "no idf": lambda: TfidfVectorizer(use_idf=False),
    "binary": lambda: TfidfVectorizer(binary=True),
    "counts": CountVectorizer,
    "binary counts": lambda: CountVectorizer(binary=True, lowercase=False),
    "characters": lambda: TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4)),
    "stop words": lambda: TfidfVectorizer(stop_words=["the", "very"], ngram_range=(1, 2)),
    "accents": lambda: TfidfVectorizer(strip_accents="unicode"),
    "negation": lambda: TfidfVectorizer(
        tokenizer=tokenize, token_pattern=None, lowercase=False, ngram_range=(1, 2), sublinear_tf=True
    ),
    "own tokenizer": lambda: TfidfVectorizer(tokenizer=str.split, token_pattern=None, lowercase=False),
}
PIPELINES = {
    f"{name}, {len(set(labels))} classes": fitted(make(), labels)
    for name, make in VECTORIZERS.items()
    for labels in (TWO, THREE)
}
COMPILED = {name: CompiledLinearText(pipeline) for name, pipeline in PIPELINES.items()}


@pytest.mark.parametrize("name", PIPELINES)
@settings(max_examples=30, deadline=None)
@given(value=text)
def test_probabilities_equal_scikit_learns(name: str, value: str) -> None:
    pipeline, compiled = PIPELINES[name], COMPILED[name]
    expected = pipeline.predict_proba([value])[0]
    assert np.abs(np.array(compiled.probabilities(value)) - expected).max() < 1e-12
    assert compiled.classes == pipeline.classes_.tolist()


@pytest.mark.parametrize("name", PIPELINES)
@settings(max_examples=15, deadline=None)
@given(values=st.lists(text, min_size=2, max_size=8))
def test_a_text_in_company_gets_the_very_answer_that_it_gets_alone(name: str, values: list[str]) -> None:
    compiled = COMPILED[name]
    assert compiled.scores(values) == [compiled.scores([value])[0] for value in values]


@pytest.mark.parametrize("name", ["sublinear, 3 classes", "tfidf, 2 classes", "sublinear l1, 3 classes"])
def test_a_word_may_occur_any_number_of_times(name: str) -> None:
    pipeline, compiled = PIPELINES[name], COMPILED[name]
    values = ["good food", "good " * 3_000 + "bad bad slow", "bad " * 100]
    found = np.array(compiled.scores(values))
    assert np.abs(found - pipeline.predict_proba(values)).max() < 1e-12


@pytest.mark.parametrize("labels", [TWO, THREE], ids=["2 classes", "3 classes, of an older file"])
def test_liblinear_answers_as_the_installed_scikit_learn_makes_it_answer(labels: list[str]) -> None:
    pipeline = fitted(TfidfVectorizer(), labels)
    pipeline.named_steps["c"].solver = "liblinear"
    value = "good food not bad"
    assert CompiledLinearText(pipeline).probabilities(value) == pytest.approx(
        pipeline.predict_proba([value])[0].tolist(), abs=1e-12
    )


def test_extreme_scores_do_not_overflow() -> None:
    pipeline = fitted(CountVectorizer(), TWO, C=1e6)
    value = "good " * 100_000
    found = CompiledLinearText(pipeline).probabilities(value)
    assert all(math.isfinite(p) for p in found)
    assert found == pytest.approx(pipeline.predict_proba([value])[0].tolist(), abs=1e-12)


@pytest.mark.parametrize(
    ("pipeline", "reason"),
    [
        (Pipeline([("v", HashingVectorizer()), ("c", LogisticRegression())]), "HashingVectorizer"),
        (Pipeline([("v", TfidfVectorizer()), ("c", MultinomialNB())]), "MultinomialNB"),
        (Pipeline([("c", LogisticRegression())]), "two steps"),
        (LogisticRegression(), "two steps"),
    ],
    ids=["hashing", "naive bayes", "one step", "no pipeline"],
)
def test_other_estimators_are_refused(pipeline: object, reason: str) -> None:
    with pytest.raises(NotCompilable, match=reason):
        CompiledLinearText(pipeline)


def test_a_subclass_is_refused_since_it_may_override_anything() -> None:
    class Louder(TfidfVectorizer):
        pass

    with pytest.raises(NotCompilable, match="Louder"):
        CompiledLinearText(fitted(Louder(), TWO))
