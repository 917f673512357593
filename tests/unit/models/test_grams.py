"""The n-grams found in a text are those that scikit-learn counts in it."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer

from falcon_wsgi.models.grams import grams_of, splits_in_linear_time
from falcon_wsgi.models.negation import tokenize


def pairs_of_words(text: str) -> list[str]:
    """Tokens that hold spaces, so that a token and an n-gram of two may be the same string."""
    words = text.split(" ")
    return [" ".join(words[i : i + 2]) for i in range(0, len(words), 2)]


LEARNED = [
    "The room is good and the staff is not bad",
    "not good not good, never again!",
    "good good food but slow slow service",
    "na\u00efve caf\u00e9 \u2014 it isn't good, isn't it? :) 10/10",
    "the the the bad food",
]
VECTORIZERS = {
    "words": CountVectorizer(),
    "words and pairs": TfidfVectorizer(ngram_range=(1, 2)),
    "pairs and threes": CountVectorizer(ngram_range=(2, 3)),
    "threes": TfidfVectorizer(ngram_range=(3, 3)),
    "one to four": CountVectorizer(ngram_range=(1, 4), lowercase=False),
    "words that only pairs know": CountVectorizer(
        ngram_range=(1, 2), vocabulary=["good", "bad food", "is not"]
    ),
    "a vocabulary of longer ones": CountVectorizer(vocabulary=["good", "bad food", "a  b"]),
    "stop words": TfidfVectorizer(ngram_range=(1, 2), stop_words=["the", "is"]),
    "accents": CountVectorizer(ngram_range=(1, 2), strip_accents="unicode"),
    "own pattern": CountVectorizer(ngram_range=(1, 2), token_pattern=r"\w+ ?\w+"),
    "tokens with spaces": CountVectorizer(ngram_range=(1, 2), tokenizer=pairs_of_words, token_pattern=None),
    "own preprocessor": CountVectorizer(ngram_range=(1, 2), preprocessor=str.swapcase),
    "characters": CountVectorizer(analyzer="char_wb", ngram_range=(2, 3)),
    "own analyzer": CountVectorizer(analyzer=str.split),
    "negation": TfidfVectorizer(
        ngram_range=(1, 2), tokenizer=tokenize, token_pattern=None, lowercase=False, min_df=1
    ),
    "negation, lower case, stop words": CountVectorizer(
        ngram_range=(1, 3), tokenizer=tokenize, token_pattern=None, stop_words=["is"]
    ),
}
for vectorizer in VECTORIZERS.values():
    vectorizer.fit(LEARNED)

text = st.one_of(
    st.lists(
        st.sampled_from([*" ".join(LEARNED).split(), "new", "GOOD", "good.", "slow,", "\u65e5\u672c"]),
        max_size=20,
    ).map(" ".join),
    st.text(max_size=40),
)


@pytest.mark.parametrize("name", VECTORIZERS)
@settings(max_examples=40, deadline=None)
@given(value=text)
def test_each_is_found_as_often_as_scikit_learn_counts_it(name: str, value: str) -> None:
    vectorizer = VECTORIZERS[name]
    counts = CountVectorizer.transform(vectorizer, [value]).tocoo()
    expected = {int(column) + 1: int(n) for column, n in zip(counts.col, counts.data, strict=True)}
    grams = grams_of(vectorizer)
    found = Counter(grams.find([value])[0])
    assert {number: n for number, n in found.items() if number <= len(vectorizer.vocabulary_)} == expected
    assert all(0 < number <= grams.size for number in found)


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
def test_tokenizers_of_known_time_are_told(vectorizer: CountVectorizer) -> None:
    assert splits_in_linear_time(vectorizer)


@pytest.mark.parametrize(
    "vectorizer",
    [
        TfidfVectorizer(token_pattern=r"(?:a+)+b"),
        TfidfVectorizer(tokenizer=str.split),
        TfidfVectorizer(analyzer=str.split),
        TfidfVectorizer(preprocessor=str.lower),
    ],
)
def test_those_of_a_users_own_are_not_of_known_time(vectorizer: CountVectorizer) -> None:
    assert not splits_in_linear_time(vectorizer)
