from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from falcon_wsgi.models.negation import KnownTokens, tokenize


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("The food is good", ["the", "food", "is", "good"]),
        ("not good", ["not", "not_good"]),
        ("It isn't good", ["it", "is", "not", "not_good"]),
        ("It isn\u2019t good", ["it", "is", "not", "not_good"]),
        ("It isnt good", ["it", "is", "not", "not_good"]),
        ("I can't, cant, cannot", ["i", "can", "not", "can", "not", "can", "not"]),
        ("won't shan't ain't", ["will", "not", "shall", "not", "is", "not"]),
        ("it's what I'd say we're", ["it", "is", "what", "i", "would", "say", "we", "are"]),
        ("John's dog", ["john", "dog"]),
    ],
)
def test_contractions_are_written_in_full(text: str, tokens: list[str]) -> None:
    assert tokenize(text) == tokens


def test_function_words_inside_a_negation_are_neither_marked_nor_counted() -> None:
    assert tokenize("not a very good place at all") == [
        *("not", "a", "very", "not_good", "not_place", "at", "all"),
    ]


def test_a_negation_reaches_three_content_words() -> None:
    assert tokenize("never red green blue yellow")[1:] == ["not_red", "not_green", "not_blue", "yellow"]


@pytest.mark.parametrize("end", [",", ".", ";", "!", "?", " but", " although", " because", "\u2026"])
def test_punctuation_and_contrast_end_a_negation(end: str) -> None:
    tokens = tokenize(f"not clean{end} cheap")
    assert "not_clean" in tokens
    assert "cheap" in tokens
    assert "not_cheap" not in tokens


@pytest.mark.parametrize("text", ["never fails to please", "not without charm", "doesn't lack charm"])
def test_a_reversed_negation_leaves_the_rest_unmarked(text: str) -> None:
    assert tokenize(text)[-1] in ("please", "charm")


@pytest.mark.parametrize("text", ["no doubt great", "not only great", "didn't hesitate, great"])
def test_a_particle_after_a_negator_ends_it(text: str) -> None:
    assert tokenize(text)[-1] == "great"


def test_a_second_negator_starts_a_scope_of_its_own() -> None:
    assert tokenize("wasn't clean and didn't look nice")[-1] == "not_nice"


def test_never_so_does_not_reach_what_follows() -> None:
    assert tokenize("never been so bad")[-1] == "bad"
    assert tokenize("not so bad")[-1] == "not_bad"


def test_long_words_are_cut_so_that_no_token_is_long() -> None:
    assert {len(token) for token in tokenize("ab" * 5_000)} == {40}


def test_what_follows_but_counts_twice_within_its_sentence() -> None:
    assert tokenize("fine but slow. Next")[2:] == ["slow", "slow", "next"]
    assert tokenize("fine but slow") == ["fine", "but", "slow", "slow"]


@pytest.mark.parametrize("text", ["me too", "me too.", "me too, thanks"])
def test_too_at_the_end_of_a_clause_is_no_excess(text: str) -> None:
    assert "too" in tokenize(text)
    assert tokenize("too salty") == ["<too>", "salty"]


def test_smileys_emoji_and_numbers_have_few_forms() -> None:
    assert tokenize(":) \U0001f600 \u2764\ufe0f <3") == ["<smile>"] * 4
    assert tokenize(":( \U0001f621") == ["<frown>"] * 2
    assert tokenize("5 10/10 4000 3.14 12345/67890") == ["5", "10/10", "<number>", "<number>", "<number>"]


@pytest.mark.parametrize("address", ["@airline", "https://example.com/a_b?c=1", "www.example.com"])
def test_mentions_and_web_addresses_are_no_words(address: str) -> None:
    assert tokenize(f"not {address} good {address}") == ["not", "not_good"]


def test_a_number_with_separators_is_one_number() -> None:
    assert tokenize("14,203 people, 1,250.50 dollars") == ["<number>", "people", "<number>", "dollars"]


def test_runs_of_letters_are_cut_to_two() -> None:
    assert tokenize("soooooo goooood") == ["soo", "good"]


def test_only_exclamation_and_question_marks_stay() -> None:
    assert tokenize("(yes), no: \u2014 ok?! ...") == ["yes", "no", "ok", "?", "!"]


PARTS = [
    *(
        "good",
        "Bad",
        "room",
        "GREAT!!!",
        "soooo",
        "a",
        "ab" * 21,
        "caf\u00e9",
        "na\u00efve",
        "\u65e5\u672c",
        "\u0130",
    ),
    *(
        "not",
        "isn't",
        "isn\u2019t",
        "never",
        "such",
        "but",
        "too",
        "fails",
        "only",
        "it's",
        "john's",
        "don't.",
    ),
    *(
        ".",
        ",",
        "!",
        "?",
        "...",
        "good,",
        "food.",
        "(well)",
        "and/or",
        "\u2014",
        "\ufe0f",
        "\xbd",
        "\xb2\xb2\xb2",
        "'",
    ),
    *("5", "10/10", "4000", "3.14", "3.", "1,", ":)", ":", "d:", ";-(", "<3", "\u2764\ufe0f", "\U0001f621"),
    *("@me", "www.x.y,", "http://a.b.", "not_good", "<number>", "<too>", "_", "\x85", "\x1c", "\u3000", "\n"),
]
BROKEN = st.lists(
    st.tuples(st.sampled_from(PARTS), st.sampled_from([" ", " ", " ", "", "  ", ", "])), max_size=25
)
SENTENCES = BROKEN.map(lambda parts: "".join(map("".join, parts)))
VOCABULARY = sorted(
    {token for part in PARTS for token in tokenize(f"not {part} good too salty") if part != "room"}
)
NUMBERS = {token: number for number, token in enumerate(["4000", "<3", "John's", *VOCABULARY], start=1)}
KNOWN = KnownTokens(NUMBERS)


@given(st.one_of(SENTENCES, st.text(max_size=80)))
def test_known_tokens_are_numbered_as_if_the_text_were_tokenized_first(text: str) -> None:
    assert [number or None for number in KNOWN.numbers(text)] == list(map(NUMBERS.get, tokenize(text)))


# A break between texts, as a word and within one, and words that reach over the end of their text.
_ODD = st.sampled_from(
    ["", "\x00", "a \x00 b", "not", "it is not", "good", "\x00.", "ΟΔΟΣ", "see www.x.org", "too <3", "zzgf"]
)


@given(st.lists(st.one_of(SENTENCES, st.text(max_size=80), _ODD), min_size=1, max_size=8))
def test_texts_looked_at_together_have_the_numbers_that_each_has_alone(texts: list[str]) -> None:
    assert KNOWN.numbers_of_each(texts) == list(map(KNOWN.numbers, texts))


@given(st.text(max_size=300))
def test_any_string_gives_tokens_without_blanks(text: str) -> None:
    assert all(token and not token.isspace() for token in tokenize(text))


@given(
    st.lists(
        st.sampled_from(["not", "but", "too", "good", ".", "fail", "isn't", "such", "\u2019", "1/"]),
        max_size=60,
    )
)
def test_tokens_are_at_most_four_for_each_word(words: list[str]) -> None:
    assert len(tokenize(" ".join(words))) <= 4 * len(words)


@pytest.mark.parametrize(
    "unit",
    [
        *(
            "a",
            "'",
            "a'",
            "1/",
            "1,",
            "<3",
            "\U0001f600",
            "but ",
            "not but a ",
            ":",
            "\ud800",
            "\0",
            "\u0130",
        ),
        *("@", "@a", "www.", "http://"),
    ],
)
def test_the_longest_input_of_any_one_unit_is_accepted(unit: str) -> None:
    text = (unit * 10_000)[:10_000]
    assert len(tokenize(text)) <= 2 * len(text)
