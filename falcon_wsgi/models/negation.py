"""Tokens for sentiment: words that stand inside a negation are marked, and what follows "but" counts twice.

A bag of words cannot tell "good" from "not good". Marking the words in the scope of a negator, as in Pang and
Lee (EMNLP 2002), gives "not_good" a weight of its own. Here the scope ends at punctuation, at a contrast word
or after three content words, function words neither use it up nor are marked, and a verb of lacking or failing
inside a scope ends it ("never fails to please" leaves "please" unmarked).

Stored pipelines refer to `tokenize` by its qualified name. A change of its output changes what a stored model
means, so it goes together with a new version of every recipe that uses it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

SCOPE_CONTENT_WORDS = 3
"""Content words that a negator reaches."""

POSITIVE_SMILE = "<smile>"
NEGATIVE_SMILE = "<frown>"
NUMBER = "<number>"
_TOO = "<too>"
_MARK = "not_"
_MADE_UP = frozenset("_<")  # one of these is in every token that is not of the text itself
_KEPT_PUNCTUATION = frozenset("!?")
_CLOSING = ".,!?"  # at the end of a word, each is a piece of its own, whatever the word

# Between two texts. A text may hold it too, and is then looked at alone.
_BREAK_WORD = "\x00"
_BREAK = f" {_BREAK_WORD} "

_LONGEST_WORD = 40  # as in the pattern
# Each alternative starts with characters of its own and repeats one class only, so matching is linear.
_TOKENS = re.compile(
    r"[^\W\d_]{1,40}(?:'[^\W\d_]{1,40})?"
    r"|\d+(?:[.,/]\d+)*"
    r"|[:;=]'?-?[)(\]\[|*/\\dp](?![\w/])"
    r"|<[/3]3?"
    r"|[\u2600-\u27bf\U0001f300-\U0001faff]"
    r"|[.,;:!?()\u2013\u2014\u2026]"
)
_ADDRESS = re.compile(r"@\w+|https?://\S+|www\.\S+")  # to whom or where, which says nothing of opinion
_LONG_RUN = re.compile(r"([a-z])\1\1+")

# What a token does. A token without a rule is a content word.
_FUNCTION = 0  # stays as it is inside a negation
_PUNCTUATION = 1  # ends a negation
_SENTENCE_END = 2  # ends a negation and the emphasis after a contrast
_CONTRAST = 3  # ends a negation; what follows counts twice
_CONCESSION = 4  # ends a negation
_NEGATOR = 5  # starts a negation
_REVERSER = 6  # starts a negation, ends one that it stands in
_EXPANSION = 7  # is written in full
_EXCESS = 8  # "too"
_PARTICLE = 9  # ends the negation that it stands in
_DEGREE = 10  # ends the negation that it stands in after "never"
_Rule = tuple[int, tuple[str, ...]]

_NEGATED_VERBS = (
    "is are was were do does did has have had could would should must might need ought dare"  # + n't
)
_ENDINGS = {"'s": "", "'re": "are", "'ve": "have", "'ll": "will", "'d": "would", "'m": "am"}
_PRONOUNS = "i you he she it we they that this there here what who where how"


def _rules() -> dict[str, _Rule]:
    rules: dict[str, _Rule] = {}

    def add(kind: int, words: str | Iterable[str]) -> None:
        for word in words.split() if isinstance(words, str) else words:
            rules[word] = (kind, (word,))

    add(
        _FUNCTION,
        "a an the this that these those i you he she it we they me him her us them my your his its our their be "
        "been being is are was were am do does did have has had having will would can could should may might "
        "must shall to of in on at for from with by about as into onto over up out and or very really all "
        "any even quite that's there here what which who whom whose when where how than then if much many more "
        "most enough exactly particularly especially entirely completely totally absolutely truly overly "
        "terribly remotely necessarily ever again also still get got getting go going went come came feel felt "
        "seem seems seemed look looks looked taste tasted tastes sound sounds say think believe find found make "
        "made makes give gave be one's anything anyone anywhere thing things way kind sort bit lot "
        "<number> one two",
    )
    add(_PUNCTUATION, ", ; : ( ) \u2013 \u2014")
    add(_SENTENCE_END, ". ! ? \u2026")
    add(
        _CONTRAST,
        "but however yet nevertheless nonetheless instead unfortunately sadly thankfully fortunately",
    )
    add(_CONCESSION, "although though while whereas except because since until unless despite when if unlike")
    add(
        _NEGATOR,
        "not no never nor neither none nobody nothing nowhere hardly barely scarcely rarely seldom",
    )
    add(_REVERSER, "without lack lacks lacked lacking fail fails failed failing zero")
    add(_DEGREE, "so such")
    add(_PARTICLE, "only just doubt wonder matter idea sooner hesitate hesitation")
    rules["too"] = (_EXCESS, ("too",))
    for verb in _NEGATED_VERBS.split():
        for form in (f"{verb}n't", f"{verb}nt"):
            rules[form] = (_NEGATOR, (verb, "not"))
    for form, verb in {"ca": "can", "wo": "will", "ai": "is", "sha": "shall"}.items():
        rules[f"{form}n't"] = rules[f"{form}nt"] = (_NEGATOR, (verb, "not"))
    rules["cannot"] = (_NEGATOR, ("can", "not"))
    for pronoun in _PRONOUNS.split():
        for ending, verb in _ENDINGS.items():
            rules[pronoun + ending] = (_EXPANSION, (pronoun, verb or "is"))
    rules["let's"] = (_EXPANSION, ("let", "us"))
    return rules


_RULES = _rules()
_ACTIVE = frozenset(word for word, (kind, _) in _RULES.items() if kind != _FUNCTION)
_POSITIVE_SMILES = (
    ":) :-) ;) ;-) =) :] ;] =] :d :-d ;d =d :p :-p ;p :* ;* <3 "
    "\u263a \u2665 \u2764 \u2728 \u2b50 \u2705 \U0001f44d \U0001f44f \U0001f389 \U0001f4af \U0001f525 \U0001f60a "
    "\U0001f60d \U0001f600 \U0001f601 \U0001f602 \U0001f603 \U0001f604 \U0001f606 \U0001f609 \U0001f60b \U0001f60e "
    "\U0001f618 \U0001f642 \U0001f917 \U0001f923 \U0001f929 \U0001f970 \U0001f973 \U0001f64c \U0001f64f \U0001f499 "
    "\U0001f49a \U0001f49b \U0001f49c \U0001f495 \U0001f496 \U0001f31f \U0001f44c"
)
_NEGATIVE_SMILES = (
    ":( :-( :'( =( ;( :[ =[ :/ :-/ :\\ :| :-| </3 "
    "\u2639 \u274c \U0001f44e \U0001f494 \U0001f4a9 \U0001f612 \U0001f614 \U0001f615 \U0001f61e \U0001f61f "
    "\U0001f620 \U0001f621 \U0001f622 \U0001f624 \U0001f625 \U0001f629 \U0001f62b \U0001f62d \U0001f631 "
    "\U0001f641 \U0001f644 \U0001f92c \U0001f922 \U0001f92e \U0001f926"
)
_SMILES = dict.fromkeys(_POSITIVE_SMILES.split(), POSITIVE_SMILE) | dict.fromkeys(
    _NEGATIVE_SMILES.split(), NEGATIVE_SMILE
)


def tokenize(text: str) -> list[str]:
    """Tokens of `text`, in order, in time linear in its length. Any string is accepted.

    Lower case; contractions in full ("isn't", "isnt": is, not); a content word in a negation with `not_` before
    it; runs of three or more equal letters cut to two; smileys and emoji as one token for each polarity;
    numbers of three and more digits as one; mentions and web addresses left out; of the punctuation only "!"
    and "?" stay.
    """
    lowered = text.lower()
    if not lowered.isascii():
        lowered = _plain_quotes(lowered)
    if "@" in lowered or "://" in lowered or "www." in lowered:
        lowered = _ADDRESS.sub(" ", lowered)
    return _marked(_pieces(lowered))


class KnownTokens:
    """`tokenize` with a number for each token, in a third of its time for texts that are mostly of known tokens.

    Patterns take two thirds of `tokenize`'s time. No match of theirs goes across white space, so a word between spaces
    that they are known to leave as it is can do without them.
    """

    def __init__(self, numbers: Mapping[str, int]) -> None:
        # Tokens that `tokenize` makes up are found among its results only.
        self._numbers = dict.fromkeys(filter(_is_whole, _RULES), 0) | {
            token: n
            for token, n in numbers.items()
            if _is_plain(token) or _is_whole(token) or not _MADE_UP.isdisjoint(token)
        }

    def numbers(self, text: str) -> list[int | None]:
        """Of the tokens of `text`, in order; None or 0 for one that has none."""
        words = _words(text.lower())
        if words is None:
            return self._numbered(tokenize(text))
        return self._settled(words, list(map(self._numbers.get, words)))

    def numbers_of_each(self, texts: Sequence[str]) -> list[list[int | None]]:
        """`numbers` of each text. Most are one look at all of them: two thirds of the time for 50."""
        if len(texts) == 1:
            return [self.numbers(texts[0])]
        words = _words(_BREAK.join(texts).lower())
        if words is None or words.count(_BREAK_WORD) != len(texts) - 1:
            return list(map(self.numbers, texts))
        numbers = list(map(self._numbers.get, words))
        found = []
        start = 0
        for _ in range(len(texts) - 1):
            end = words.index(_BREAK_WORD, start)
            found.append(self._settled(words[start:end], numbers[start:end]))
            start = end + 1
        found.append(self._settled(words[start:], numbers[start:]))
        return found

    def _settled(self, words: list[str], numbers: list[int | None]) -> list[int | None]:
        """The numbers of the words' tokens, given those of the words as they stand."""
        if None in numbers:
            new = [word for word, number in zip(words, numbers, strict=True) if number is None]
            if not all(map(_is_plain, new)):
                pieces_of = {word: _pieces(word) for word in new}
                words = [piece for word in words for piece in pieces_of.get(word, (word,))]
                return self._numbered(_marked(words))
        if _ACTIVE.isdisjoint(words):
            return numbers
        return self._numbered(_marked(words))

    def _numbered(self, tokens: list[str]) -> list[int | None]:
        return list(map(self._numbers.get, tokens))


def _words(lowered: str) -> list[str] | None:
    """What stands between spaces, with closing marks apart; None if there is something that only patterns know."""
    if not lowered.isascii():
        lowered = _plain_quotes(lowered)
    if "_" in lowered or "<" in lowered or "@" in lowered or "://" in lowered or "www." in lowered:
        return None
    for mark in _CLOSING:
        if mark in lowered:
            lowered = f"{lowered} ".replace(f"{mark} ", f" {mark} ")
    return lowered.split()


def _plain_quotes(text: str) -> str:
    return text.replace("\u2019", "'").replace("\u02bc", "'").replace("\ufe0f", "")


def _pieces(lowered: str) -> list[str]:
    if _LONG_RUN.search(lowered):
        lowered = _LONG_RUN.sub(r"\1\1", lowered)
    return _TOKENS.findall(lowered)


def _is_whole(word: str) -> bool:
    """Whether the word alone between spaces is one piece, and the token that it stands for is itself."""
    return _pieces(word) == [word] and (word in _RULES or _canonical(word) == word)


def _is_plain(word: str) -> bool:
    """Whether a word without a rule is surely one piece and its own token. Quicker than the pattern."""
    return len(word) <= _LONGEST_WORD and _has_no_long_run(word)


@lru_cache(4096)
def _has_no_long_run(word: str) -> bool:
    """Whether it consists of letters, none of them three times in a row."""
    return word.isalpha() and not _LONG_RUN.search(word)


def _marked(pieces: Iterable[str]) -> list[str]:
    """The tokens that pieces of a text stand for."""
    out: list[str] = []
    append = out.append
    rule_of = _RULES.get
    scope = 0
    negator = ""
    emphasised_from = -1  # index in `out` of the first token after a contrast word, in the present sentence
    for token in pieces:
        rule = rule_of(token)
        if rule is None:
            if not token.isalpha() and (token[0] < "a" or token[0] > "\u02af" or "'" in token):
                token = _canonical(token)
            if scope:
                scope -= 1
                token = _MARK + token
            append(token)
            continue
        kind, words = rule
        if kind == _FUNCTION:
            append(token)
        elif kind == _NEGATOR:
            out += words
            negator = token
            scope = SCOPE_CONTENT_WORDS
        elif kind == _REVERSER:
            append(_MARK + token if scope else token)
            scope = 0 if scope else SCOPE_CONTENT_WORDS
        elif kind == _DEGREE:
            append(token)
            if negator == "never":  # "never had such bad food" says that it was bad
                scope = 0
        elif kind == _EXPANSION:
            out += words
        elif kind == _EXCESS:
            append("too" if scope else _TOO)
        elif kind == _PARTICLE:
            append(_MARK + token if scope else token)
            scope = 0
        else:
            scope = 0
            if kind == _CONTRAST:
                append(token)
                emphasised_from = len(out)
            elif kind == _CONCESSION:
                append(token)
            else:
                if out and out[-1] == _TOO:
                    out[-1] = "too"
                if kind == _SENTENCE_END:
                    if emphasised_from >= 0:
                        out += out[emphasised_from:]
                        emphasised_from = -1
                    if token in _KEPT_PUNCTUATION:
                        append(token)
    if out and out[-1] == _TOO:
        out[-1] = "too"
    if emphasised_from >= 0:
        out += out[emphasised_from:]
    return out


def _canonical(token: str) -> str:
    """The form in which a token counts that is no plain word: a number, smiley or possessive."""
    if token.isdigit():
        return token if len(token) < 3 else NUMBER
    if token[0].isdigit():
        return token if "/" in token and len(token) < 6 else NUMBER
    smile = _SMILES.get(token)
    if smile is not None:
        return smile
    stem, apostrophe, _ = token.partition("'")
    return stem if apostrophe else token
