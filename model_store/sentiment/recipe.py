"""Trains the sentiment model: negative, neutral or positive.

The training sentences are written by hand (`data/sentences_*.csv`) or made here by a grammar: templates
(`data/templates.csv`) filled with words of known polarity (`data/lexicon.csv`) and of none
(`data/vocabulary.csv`). README.md tells how the data is made up. The same data, seed and library versions
give the same coefficients.
"""

from __future__ import annotations

import csv
import hashlib
import random
import re
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, precision_recall_fscore_support
from sklearn.model_selection import train_test_split
from sklearn.pipeline import Pipeline
from threadpoolctl import threadpool_limits

from falcon_wsgi.errors import TrainingDataInvalid
from falcon_wsgi.models.negation import tokenize
from falcon_wsgi.models.recipe import Trained, read_labelled_texts

VERSION = "1.0.0"
SEED = 20240229
LICENCE = "CC0-1.0"
HELD_OUT_SHARE = 0.2
CONTEXT_SHARE = 0.1  # generated polar sentences that have a neutral clause, time or place beside them
REFIT_TOLERANCE = 2e-4
ANY_NOUN_SHARE = 0.15  # things of a sentence that are any noun, not one of its domain
MAX_FEATURES = 45_000
DATA = Path(__file__).resolve().parent / "data"
GOLDEN_INPUTS = (
    "not good",
    "not bad at all",
    "It isn't worth the money.",
    "I expected more.",
    "It arrived on Tuesday.",
    "The food was fine, but the service was slow!",
    "Absolutely love it :)",
)

Progress = Callable[[str, float], None]
Example = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Amounts:
    """How many training rows are made. A test that only compares two trainings scales them down."""

    keep: int = 6
    """Rows for each term, beside one for each degree of its strength, that have its polarity."""
    flip: int = 4
    """Rows for each term that turn its polarity round."""
    neutral: int = 22_000
    frames: int = 8_000
    """Neutral rows in the sentence patterns of the polar ones, so that the patterns themselves tell nothing."""
    blank: int = 3_000
    """Neutral rows of function words or of nothing: a text without a telling word is no evidence."""
    composed: int = 20_000
    """Texts of several sentences, put together from those written by hand."""
    repeats: int = 16
    """Times that a sentence written by hand counts, against one for a generated sentence."""


def train(data: Path | None, progress: Progress, amounts: Amounts | None = None) -> Trained:
    """Fit the pipeline on the project's own data, or on a user's CSV file with the columns text and label.

    `progress` is called with a stage and the share done, which never falls, at least 20 times.

    Raises:
        TrainingDataInvalid: `data` cannot be trained on; the message is one line.
    """
    started = time.perf_counter()
    progress("reading the data", 0.0)
    # The matrices are thin and sparse: a second thread of the linear algebra takes more time than it brings.
    with threadpool_limits(limits=1):
        outcome = _own_data(progress, amounts or Amounts()) if data is None else _users_file(data, progress)
    outcome.metrics["seconds"] = round(time.perf_counter() - started, 2)
    progress("done", 1.0)
    return outcome


def _own_data(progress: Progress, amounts: Amounts) -> Trained:
    files = sorted(DATA.glob("*.csv"))
    written = [
        (row["text"], row["label"]) for path in files if "sentences" in path.name for row in _table(path)
    ]
    kept, held_out = _split(written)
    grammar = Grammar(random.Random(SEED))
    terms = len(grammar.lexicon) * (amounts.keep + amounts.flip + 2)
    made = [
        *_reporting(grammar.polar(amounts), terms, progress, "making sentences", 0.0, 0.15),
        *_reporting(
            grammar.neutral(amounts.neutral), amounts.neutral, progress, "making sentences", 0.15, 0.2
        ),
        *grammar.frames(amounts.frames),
        *_blank(amounts.blank, random.Random(SEED)),
    ]
    rng = random.Random(SEED)
    seen = made + kept * amounts.repeats + [*_composed(kept, amounts.composed, rng)]
    # A short phrase of the lexicon may also have been written as a sentence; it would be no test.
    trained_on = {_bare(text) for text, _ in seen}
    test = [(text, label) for text, label in held_out if _bare(text) not in trained_on]
    composed = int(amounts.composed * len(held_out) / len(written))
    rest = held_out * amounts.repeats + [*_composed(held_out, composed, rng)]
    estimator, measured = _fit_twice(seen, rest, test, progress)
    digests = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    return _trained(
        estimator,
        measured,
        GOLDEN_INPUTS,
        {"name": "falcon-sentiment", "rows": len(written), "licence": LICENCE, "sha256": digests},
    )


def _fit_twice(
    seen: list[Example], rest: list[Example], test: list[Example], progress: Progress
) -> tuple[Pipeline, dict[str, Any]]:
    """A pipeline trained on `seen` and `rest`, with the figures that it had on `test` before it was shown `rest`.

    The second fit starts from the coefficients of the first, near its goal, so only a smaller tolerance moves it.
    The vocabulary and the inverse document frequencies are those of all texts in both.
    """
    examples = seen + rest
    labels = [label for _, label in examples]
    vectorizer, matrix = _vectorize(examples, progress, 0.2, 0.5, min_df=3)
    classifier = _classifier(warm_start=True).fit(matrix[: len(seen)], labels[: len(seen)])
    estimator = Pipeline([("features", vectorizer), ("classifier", classifier)])
    measured = _measure(estimator, test) | {"training_rows": len(examples), "held_out_rows": len(test)}
    progress("fitting", 0.8)
    classifier.set_params(tol=REFIT_TOLERANCE).fit(matrix, labels)
    classifier.set_params(warm_start=False)
    progress("fitting", 1.0)
    return estimator, measured


def _users_file(path: Path, progress: Progress) -> Trained:
    rows = read_labelled_texts(path)
    examples = list(zip(rows.texts, rows.labels, strict=True))
    kept, held_out = _split(examples)
    measured = _measure(_fit(kept, progress, 0.0, 0.5), held_out) if held_out else {}
    # The figures are of a model that has not seen the held-out rows; the one that is stored has seen all.
    estimator = _fit(examples, progress, 0.5 if held_out else 0.0, 1.0)
    first = {label: text for text, label in reversed(examples)}
    return _trained(
        estimator,
        measured | {"training_rows": len(examples), "held_out_rows": len(held_out)},
        tuple(text[:500] for text in list(first.values())[:10]),
        {"name": path.name, "rows": len(examples), "licence": "the user's own", "sha256": rows.sha256},
    )


def _trained(
    estimator: Pipeline, metrics: dict[str, Any], golden: tuple[str, ...], data: dict[str, Any]
) -> Trained:
    labels = tuple(str(label) for label in estimator.classes_)
    return Trained(estimator, "text_classification", labels, metrics, golden, data)


def _split(examples: list[Example]) -> tuple[list[Example], list[Example]]:
    """A stratified 80:20 split; all for training where a label has too few rows for one."""
    labels = [label for _, label in examples]
    if min(labels.count(label) for label in set(labels)) < 5:
        return examples, []
    kept, held_out = train_test_split(examples, test_size=HELD_OUT_SHARE, random_state=SEED, stratify=labels)
    return kept, held_out


def _fit(examples: list[Example], progress: Progress, start: float, end: float) -> Pipeline:
    middle = start + (end - start) * 0.4
    vectorizer, matrix = _vectorize(examples, progress, start, middle)
    classifier = _classifier().fit(matrix, [label for _, label in examples])
    progress("fitting", end)
    return Pipeline([("features", vectorizer), ("classifier", classifier)])


def _vectorize(
    examples: list[Example], progress: Progress, start: float, end: float, min_df: int = 1
) -> tuple[TfidfVectorizer, Any]:
    """The fitted vectorizer, and the features of the examples: a sparse matrix with a row for each."""
    texts = [text for text, _ in examples]
    if not any(map(tokenize, texts)):
        raise TrainingDataInvalid("the texts hold no words to learn from")
    vectorizer = TfidfVectorizer(
        tokenizer=tokenize,
        token_pattern=None,
        lowercase=False,
        ngram_range=(1, 2),
        max_features=MAX_FEATURES,
        min_df=min_df,
        sublinear_tf=True,
    )
    matrix = vectorizer.fit_transform(_reporting(texts, len(texts), progress, "counting words", start, end))
    progress("fitting", end)
    return vectorizer, matrix


def _classifier(warm_start: bool = False) -> LogisticRegression:
    return LogisticRegression(C=1.5, max_iter=1000, tol=1e-3, warm_start=warm_start)


def _measure(estimator: Pipeline, held_out: list[Example]) -> dict[str, Any]:
    labels = [label for _, label in held_out]
    predicted = estimator.predict([text for text, _ in held_out])
    names = [str(name) for name in estimator.classes_]
    scores = precision_recall_fscore_support(labels, predicted, labels=names, zero_division=0)
    per_class = {
        name: {
            "precision": round(float(p), 4),
            "recall": round(float(r), 4),
            "f1": round(float(f), 4),
            "rows": int(n),
        }
        for name, p, r, f, n in zip(names, *scores, strict=True)
    }
    return {
        "accuracy": round(float(accuracy_score(labels, predicted)), 4),
        "macro_f1": round(float(np.mean(scores[2])), 4),
        "per_class": per_class,
    }


def _reporting(
    items: Iterable[Any], expected: int, progress: Progress, stage: str, start: float, end: float
) -> Iterator[Any]:
    """Passes the items on and reports about ten times while it does."""
    step = max(1, expected // 10)
    for i, item in enumerate(items):
        if i % step == 0:
            progress(stage, min(end, start + (end - start) * i / expected))
        yield item


def _composed(sentences: list[Example], count: int, rng: random.Random) -> Iterator[Example]:
    """Texts of up to four sentences: all of one label, or polar ones beside a neutral one."""
    by_label: dict[str, list[str]] = defaultdict(list)
    for text, label in sentences:
        by_label[label].append(text)
    for i in range(count):
        label = ("negative", "positive", "negative", "positive", "neutral")[i % 5]
        parts = [rng.choice(by_label[label]) for _ in range(rng.choice((1, 2, 2, 3)))]
        if label != "neutral" and (len(parts) == 1 or rng.random() < 0.3):
            parts.insert(rng.randrange(len(parts) + 1), rng.choice(by_label["neutral"]))
        yield " ".join(parts), label


def _blank(count: int, rng: random.Random) -> Iterator[Example]:
    for i in range(count):
        yield (
            " ".join(rng.choices(_WITHOUT_MEANING.split(), k=0 if i % 4 else rng.randrange(1, 6))),
            "neutral",
        )


def _bare(text: str) -> str:
    return text.lower().strip(" .!?")


def _table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


_SLOT = re.compile(r"\{([a-z_]+)[23]?\}")
_OPPOSITE = {"positive": "negative", "negative": "positive"}
_DOMAINS = ("food", "service", "place", "product", "media", "app", "hotel", "price")

_WITHOUT_MEANING = (
    "the a an and or of to in on at for with from by as it is was are were be this that these those i you he she we "
    "they my your his her our their there here which who what when where then than if so will would can do does did "
    "have has had"
)

# An empty word leaves the slot out; a repeated one is chosen more often.
_FUNCTION_WORDS = {
    "the": "the,the,the,the,the,my,this,their,our,his,her,your,that,",
    "a": "a",
    "be": "is,is,was,was,are,were,has been",
    "past": "tried,bought,had,got,saw,ordered,used",
    "int": "very,really,so,extremely,quite,pretty,absolutely,truly,incredibly,just,super,totally,simply,always,,,",
    "opener": "honestly,overall,to be honest,in short,well,i must say,in the end,all in all,for us,this time,"
    "by the way,i think,in my opinion,and,plus,also",
}

# What stands in place of a polar term in a pattern, by the term's part of speech.
_NEUTRAL_FILLINGS = {
    "adjective": ("{adj}", "{adj}", "{adj} and {adj2}", "from {city}", ""),
    "comparative": ("{than_adj}",),
    "noun": ("{adj} {thing}", "{thing}", "{part}", "{document}", "{place}", ""),
    "aspect": ("{parts}", "{material}", "{adj} {parts}", ""),
    "mass": ("{material}", "{subject}", "{adj} {material}"),
    "phrase": ("in the {place}", "from {city}", "about {subject}", "made of {material}", ""),
    "experience": ("",),
    "effect": ("",),
}


@dataclass(frozen=True, slots=True)
class Term:
    """An entry of the lexicon. `strength` is 2 or 3."""

    text: str
    part_of_speech: str
    domain: str
    polarity: str
    strength: int


class Grammar:
    """Fills templates with words. All its choices are drawn from the one generator that it is given."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self.lexicon = [
            Term(r["term"], r["part_of_speech"], r["domain"], r["polarity"], int(r["strength"]))
            for r in _table(DATA / "lexicon.csv")
        ]
        self._templates: dict[tuple[str, str], list[str]] = defaultdict(list)
        for row in _table(DATA / "templates.csv"):
            self._templates[row["part_of_speech"], row["effect"]].append(row["template"])
        self._slots = {slot: words.split(",") for slot, words in _FUNCTION_WORDS.items()}
        self._things: dict[str, list[str]] = defaultdict(list)
        for row in _table(DATA / "vocabulary.csv"):
            by = self._things.setdefault(row["domain"], []) if row["slot"] == "thing" else None
            (self._slots.setdefault(row["slot"], []) if by is None else by).append(row["term"])
        self._irregular = {row["base"]: row for row in _table(DATA / "irregular_verbs.csv")}
        self._slots["verbed"] = [
            (self._irregular.get(verb) or _regular(verb))["participle"] for verb in self._slots["verb"]
        ]
        self._companions: dict[tuple[str, str, str], list[str]] = defaultdict(list)
        for term in self.lexicon:
            self._companions[term.part_of_speech, term.polarity, term.domain].append(term.text)

    def polar(self, amounts: Amounts) -> Iterator[Example]:
        """Sentences around each term: of its own polarity, and turned round."""
        for term in self.lexicon:
            for _ in range(amounts.keep + term.strength):
                yield self._around(term, "keep"), term.polarity
            if self._templates.get((term.part_of_speech, "flip")):
                for _ in range(amounts.flip):
                    yield self._around(term, "flip"), _OPPOSITE[term.polarity]
            if term.polarity == "positive" and self._templates.get((term.part_of_speech, "worse")):
                yield self._around(term, "worse"), "negative"

    def neutral(self, count: int) -> Iterator[Example]:
        """Statements of fact, questions and fragments; every template is used about equally often."""
        templates = self._templates["neutral", "keep"]
        for i in range(count):
            yield self._fill(templates[i % len(templates)], self._rng.choice(_DOMAINS)), "neutral"

    def frames(self, count: int) -> Iterator[Example]:
        """Patterns of polar sentences, also negated ones, filled with words that have no polarity."""
        patterns = [
            (part, template)
            for (part, effect), templates in self._templates.items()
            if effect in ("keep", "flip") and part in _NEUTRAL_FILLINGS
            for template in templates
            if "{y}" not in template
        ]
        for i in range(count):
            part, template = patterns[i % len(patterns)]
            yield self._neutrally(part, template), "neutral"

    def _neutrally(self, part: str, template: str) -> str:
        domain = self._rng.choice(_DOMAINS)
        filling, companion = (self._rng.choice(_NEUTRAL_FILLINGS[p]) for p in (part, "adjective"))
        text = template.replace("{x}", filling).replace("{x2adj}", companion)
        text = text.replace("{x2}", self._rng.choice(_NEUTRAL_FILLINGS[part])).replace("{x3}", companion)
        verb = self._rng.choice(self._slots["verb"])
        return self._fill(text, domain, self._irregular.get(verb) or _regular(verb))

    def _around(self, term: Term, effect: str) -> str:
        template = self._rng.choice(self._templates[term.part_of_speech, effect])
        domain = self._rng.choice(_DOMAINS) if term.domain == "any" else term.domain
        opposite = _OPPOSITE[term.polarity]
        if self._rng.random() < CONTEXT_SHARE:
            template = self._rng.choice(self._templates["context", "keep"]).replace("{sentence}", template)
        return self._fill(
            template.replace("{x}", term.text)
            .replace("{x2adj}", self._companion("adjective", term.polarity, domain))
            .replace("{x2}", self._companion(term.part_of_speech, term.polarity, domain))
            .replace("{x3}", self._companion(term.part_of_speech, term.polarity, domain))
            .replace("{y}", self._companion("adjective", opposite, domain)),
            domain,
            self._forms(term),
        )

    def _companion(self, part_of_speech: str, polarity: str, domain: str) -> str:
        """A word of this polarity that can stand beside the term."""
        part = part_of_speech if part_of_speech == "aspect" else "adjective"
        narrow = self._companions[part, polarity, domain] if self._rng.random() < 0.5 else []
        return self._rng.choice(narrow or self._companions[part, polarity, "any"])

    def _forms(self, term: Term) -> dict[str, str]:
        """The inflected forms of a verb. In a phrase the first word is the verb."""
        if term.part_of_speech not in ("experience", "effect", "function"):
            return {}
        base, space, rest = term.text.partition(" ")
        forms = self._irregular.get(base) or _regular(base)
        return {slot: form + space + rest for slot, form in forms.items()}

    def _fill(self, template: str, domain: str, bound: dict[str, str] | None = None) -> str:
        def word(match: re.Match[str]) -> str:
            slot = match[1]
            if bound and slot in bound:
                return bound[slot]
            if slot == "thing" and self._rng.random() < ANY_NOUN_SHARE:
                slot = "noun"
            words = self._things[domain] if slot == "thing" else self._slots[slot]
            chosen = self._rng.choice(words)
            return self._fill(chosen, domain) if "{" in chosen else chosen

        return _SLOT.sub(word, template)


def _regular(base: str) -> dict[str, str]:
    """The forms of a regular English verb."""
    if base.endswith("e"):
        third, past, ing = f"{base}s", f"{base}d", f"{base[:-1]}ing"
    elif base.endswith("y") and base[-2] not in "aeiou":
        third, past, ing = f"{base[:-1]}ies", f"{base[:-1]}ied", f"{base}ing"
    else:
        third = base + ("es" if base.endswith(("s", "sh", "ch", "x", "z", "o")) else "s")
        past, ing = f"{base}ed", f"{base}ing"
    return {"base": base, "third": third, "past": past, "participle": past, "ing": ing}
