"""Which models may run on the event loop."""

from __future__ import annotations

import pytest
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline

from falcon_wsgi.models.negation import tokenize
from falcon_wsgi.models.served import _tokenises_in_linear_time


def pipeline(vectorizer: CountVectorizer) -> Pipeline:
    return Pipeline([("vectorizer", vectorizer), ("classifier", LogisticRegression())])


@pytest.mark.parametrize(
    "vectorizer",
    [
        TfidfVectorizer(),
        CountVectorizer(ngram_range=(1, 3)),
        TfidfVectorizer(tokenizer=tokenize, token_pattern=None),
        TfidfVectorizer(analyzer="char"),
        TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5)),
    ],
)
def test_tokenizers_of_known_time_may(vectorizer: CountVectorizer) -> None:
    assert _tokenises_in_linear_time(pipeline(vectorizer))


@pytest.mark.parametrize(
    "vectorizer",
    [
        TfidfVectorizer(token_pattern=r"(?:a+)+b"),
        TfidfVectorizer(tokenizer=str.split),
        TfidfVectorizer(analyzer=str.split),
        TfidfVectorizer(preprocessor=str.lower),
    ],
)
def test_those_of_a_users_own_may_not(vectorizer: CountVectorizer) -> None:
    assert not _tokenises_in_linear_time(pipeline(vectorizer))
