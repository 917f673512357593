"""Which n-grams of a vectorizer's vocabulary a text holds, without building the others.

scikit-learn's analyzer joins each n-gram of a text into a string of its own before it looks it up. Where no token
holds a space, tokens become numbers first and n-grams are looked up as tuples of them, which costs half as much.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import count, filterfalse, pairwise
from typing import Any, NamedTuple

from sklearn.feature_extraction.text import CountVectorizer

from falcon_wsgi.models.negation import KnownTokens, tokenize

Split = Callable[[str], Iterable[str]]
Find = Callable[[Sequence[str]], list[list[int]]]
Number = Callable[[Sequence[str]], Iterable[list[int | None]]]
_SPACE = " "  # scikit-learn puts it between the tokens of an n-gram


class Grams(NamedTuple):
    """The n-grams of a fitted TfidfVectorizer or CountVectorizer.

    Attributes:
        find: the n-grams of each text as columns of the vectorizer's matrix, counted from 1, each as often as it
            occurs. Tokens that are known only within longer n-grams have numbers after those.
        size: the highest number.
    """

    find: Find
    size: int


def grams_of(vectorizer: Any) -> Grams:
    vocabulary = vectorizer.vocabulary_
    if vectorizer.analyzer != "word":
        return _whole(vectorizer.build_analyzer(), vocabulary)
    shortest, longest = vectorizer.ngram_range
    if longest > 1 and not _splits_at_spaces(vectorizer):
        return _whole(_joined(_splitter(vectorizer), shortest, longest), vocabulary)
    further = count(len(vocabulary) + 1)
    # Tokens apart from n-grams, and as copies: they are used most, and each use of a Python object, which counts its
    # references itself, makes its page of memory one of the worker's own. The strings of the vocabulary go with it.
    numbers = defaultdict(
        further.__next__,
        {_copy(gram): int(column) + 1 for gram, column in vocabulary.items() if _SPACE not in gram},
    )
    number_of: Callable[[str], int] = numbers.__getitem__
    tuples: dict[tuple[int | None, ...], int] = {
        tuple(map(number_of, gram.split(_SPACE))): int(column) + 1
        for gram, column in vocabulary.items()
        if _SPACE in gram
    }
    find = _by_numbers(_numbering(vectorizer, numbers), shortest, longest, tuples)
    return Grams(find, next(further) - 1)


def _copy(text: str) -> str:
    return (text + _SPACE)[:-1]


def splits_in_linear_time(vectorizer: Any) -> bool:
    """Whether its tokens are found by code whose time is known to be linear in the text's length.

    A regular expression of a user's own may take exponential time on one particular input.
    """
    if vectorizer.preprocessor is not None:
        return False
    if vectorizer.analyzer != "word":
        return vectorizer.analyzer in ("char", "char_wb")
    return _splits_at_spaces(vectorizer)


def _splits_at_spaces(vectorizer: Any) -> bool:
    """Whether no token holds a space, as is known of the usual pattern and of our own tokenizer."""
    if vectorizer.tokenizer is not None:
        return vectorizer.tokenizer is tokenize
    return bool(vectorizer.token_pattern == CountVectorizer().token_pattern)


def _whole(split: Split, vocabulary: Mapping[str, int]) -> Grams:
    columns = {gram: int(column) + 1 for gram, column in vocabulary.items()}
    column_of = columns.get
    return Grams(
        lambda texts: [list(filter(None, map(column_of, split(text)))) for text in texts], len(columns)
    )


def _joined(split: Split, shortest: int, longest: int) -> Split:
    def grams(text: str) -> list[str]:
        tokens = list(split(text))
        found = tokens[:] if shortest == 1 else []
        for n in range(max(shortest, 2), longest + 1):
            found += map(_SPACE.join, zip(*(tokens[i:] for i in range(n)), strict=False))
        return found

    return grams


def _by_numbers(
    numbers_of_each: Number,
    shortest: int,
    longest: int,
    tuples: Mapping[tuple[int | None, ...], int],
) -> Find:
    column_of = tuples.get
    pairs = shortest <= 2 <= longest
    longer = [range(n) for n in range(max(shortest, 3), longest + 1)]

    def find(numbers: list[int | None]) -> list[int]:
        found = list(filter(None, numbers)) if shortest == 1 else []
        if pairs:
            found += filter(None, map(column_of, pairwise(numbers)))
        for starts in longer:
            grams = zip(*[numbers[i:] for i in starts])  # noqa: B905 - ends with the last one
            found += filter(None, map(column_of, grams))
        return found

    return lambda texts: list(map(find, numbers_of_each(texts)))


def _numbering(vectorizer: Any, numbers: Mapping[str, int]) -> Number:
    """The tokens of each text that scikit-learn makes n-grams of, as numbers; None or 0 for one that has none."""
    if vectorizer.tokenizer is tokenize and vectorizer.stop_words is None:
        split = KnownTokens(numbers).numbers_of_each
        preprocess = _preprocessor(vectorizer)
        return (lambda texts: split(list(map(preprocess, texts)))) if preprocess else split
    tokens, number_of = _splitter(vectorizer), numbers.get
    return lambda texts: [list(map(number_of, tokens(text))) for text in texts]


def _splitter(vectorizer: Any) -> Split:
    """The tokens of a text that scikit-learn makes n-grams of."""
    split, preprocess = vectorizer.build_tokenizer(), _preprocessor(vectorizer)
    stop_words = vectorizer.get_stop_words()
    if stop_words is not None:
        is_stop_word = stop_words.__contains__
        return lambda text: filterfalse(is_stop_word, split(preprocess(text) if preprocess else text))
    return (lambda text: split(preprocess(text))) if preprocess else split


def _preprocessor(vectorizer: Any) -> Callable[[str], str] | None:
    if vectorizer.preprocessor is None and vectorizer.strip_accents is None:
        return str.lower if vectorizer.lowercase else None
    return vectorizer.build_preprocessor()  # type: ignore[no-any-return]
