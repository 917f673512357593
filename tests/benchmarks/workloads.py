"""The workloads: what each request carries, as a Lua table for wrk and as Python values for checked requests.

Both draw from the same words and ranges, so a checked request is one that the load might have sent.
"""

from __future__ import annotations

import csv
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from string import ascii_lowercase
from typing import Any, Literal

from falcon_wsgi import resources

WORDS_IN_A_TEXT = 12
FEW = 20
BATCH = 50

_LEXICON = resources.RECIPES / "sentiment" / "data" / "lexicon.csv"
_PLAIN = """\
    the a and it is was to of in my this that we they with for on not very but so at all have had
    order table room phone box day week price people staff place time morning year street door book
    arrived bought used went came said asked paid called opened waited looked worked found took
"""
_FROM_LEXICON = 700
_NEW_LETTERS = 6

# Ranges of whole numbers and what they are divided by, so that a row is new with near certainty.
_IRIS = {
    "sepal_length": (4300, 7900, 1000),
    "sepal_width": (2000, 4400, 1000),
    "petal_length": (1000, 6900, 1000),
    "petal_width": (100, 2500, 1000),
}
_PERFORMANCE = {
    "feat1": (18, 65, 1),
    "feat2": (0, 30, 1),
    "feat3": (1_000, 20_000, 1),
    "feat4": (20, 100, 1),
    "feat5": (0, 40, 1),
    "feat6": (0, 40, 1),
    "feat7": (0, 18, 1),
    "feat8": (0, 15, 1),
    "feat9": (0, 25, 1),
    "feat10": (0, 100, 1),
}
# One-hot groups by first and last field; one level more is told by zeros only.
_GROUPS = ((11, 15), (16, 21), (22, 27), (28, 30), (31, 33), (34, 36))

Range = tuple[int, int, int]


@dataclass(frozen=True)
class Workload:
    """One kind of request.

    Attributes:
        texts: in each request; 0 where rows are asked for.
        fresh: every text is new; else it is one of `FEW`.
        characters: of each text, which then begins with six random letters; 0 for `WORDS_IN_A_TEXT` words.
        numbered: the words are w1, w2, ... up to this one; 0 for those of `words`.
        keys: `new`: every request has a new idempotency key; `few`: one of `FEW`, each always with the same text.
        ranges, groups: fields of a row.
    """

    name: str
    about: str
    model: Literal["sentiment", "iris", "performance"]
    texts: int = 1
    fresh: bool = True
    keys: Literal["none", "new", "few"] = "none"
    characters: int = 0
    numbered: int = 0
    ranges: tuple[tuple[str, Range], ...] = ()
    groups: tuple[tuple[int, int], ...] = ()

    @property
    def items(self) -> int:
        """Predictions that one request asks for, and rows that it leaves in the request log."""
        return max(self.texts, 1)

    @property
    def lua(self) -> dict[str, Any]:
        """What `load.lua` is configured with."""
        return {
            "texts": self.texts,
            "fresh": self.fresh,
            "keys": self.keys,
            "length": WORDS_IN_A_TEXT,
            "characters": self.characters,
            "numbered": self.numbered,
            "words": words() if self.texts and self.fresh and not self.numbered else [],
            "few": few_texts() if self.texts and not self.fresh else [],
            "ranges": [{"name": name, "low": a, "high": b, "by": by} for name, (a, b, by) in self.ranges],
            "groups": [{"first": first, "last": last} for first, last in self.groups],
        }

    def draw(self, rng: random.Random) -> Drawn:
        """A request as the load makes them."""
        if not self.texts:
            row = self._row(rng)
            return Drawn([row])
        number = rng.randrange(FEW)
        texts = [self._new_text(rng) if self.fresh else few_texts()[number] for _ in range(self.texts)]
        return Drawn(texts, number if self.keys == "few" else None)

    def _new_text(self, rng: random.Random) -> str:
        if not (self.characters or self.numbered):
            return new_text(rng)
        known = [] if self.numbered else words()

        def word() -> str:
            return f"w{rng.randint(1, self.numbered)}" if self.numbered else rng.choice(known)

        if not self.characters:
            return " ".join(word() for _ in range(WORDS_IN_A_TEXT))
        text = "".join(rng.choices(ascii_lowercase, k=_NEW_LETTERS))
        while len(text) < self.characters:
            text += f" {word()}"
        return re.sub(" $", "x", text[: self.characters])

    def _row(self, rng: random.Random) -> dict[str, float]:
        row = {}
        for name, (low, high, by) in self.ranges:
            value = rng.randint(low, high)
            row[name] = value / by if by != 1 else value
        for first, last in self.groups:
            level = rng.randint(first, last + 1)
            row |= {f"feat{i}": int(i == level) for i in range(first, last + 1)}
        return row


@dataclass(frozen=True)
class Drawn:
    """The inputs of a request: texts or a row; and the number of its key where there are few."""

    inputs: Sequence[Any]
    key: int | None = None


WORKLOADS = {
    workload.name: workload
    for workload in (
        Workload("hot", f"{FEW} texts", "sentiment", fresh=False),
        Workload("cold", f"every text new, {WORDS_IN_A_TEXT} words", "sentiment"),
        Workload("batch", f"{BATCH} new texts a request", "sentiment", texts=BATCH),
        Workload("keyed", "new text, new idempotency key", "sentiment", keys="new"),
        Workload("replay", f"{FEW} idempotency keys, used before", "sentiment", fresh=False, keys="few"),
        Workload("iris", "every row new, 4 fields", "iris", texts=0, ranges=tuple(_IRIS.items())),
        Workload(
            "performance",
            "every row new, 36 fields",
            "performance",
            texts=0,
            ranges=tuple(_PERFORMANCE.items()),
            groups=_GROUPS,
        ),
    )
}


@cache
def words() -> list[str]:
    """Words that the model knows, with such as are neutral."""
    with _LEXICON.open(newline="") as file:
        terms = [row["term"] for row in csv.DictReader(file)]
    plain = [term for term in terms if term.isascii() and term.isalpha() and term.islower()]
    return _PLAIN.split() + plain[:: max(1, len(plain) // _FROM_LEXICON)]


@cache
def few_texts() -> list[str]:
    rng = random.Random(20)
    return [new_text(rng) for _ in range(FEW)]


def new_text(rng: random.Random) -> str:
    return " ".join(rng.choices(words(), k=WORDS_IN_A_TEXT))
