"""How two versions' answers to the same input differ, and what a count of such differences says."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from falcon_wsgi.models.prediction import Label, Prediction, label_text

# The standard normal quantile of a two-sided 95 % interval.
_Z_95 = 1.959964
_MOST_LABELS = 10
_LONGEST_LABEL = 60
OTHER = "other"
NUMBER, HIGHER, LOWER = "number", "higher", "lower"


@dataclass(frozen=True, slots=True)
class Difference:
    """Of a candidate's answer from the live one.

    Attributes:
        agree: the same label; or numbers within the relative tolerance.
        distance: for labels the largest difference of a class's probability, 0 to 1, None where one of the two gives
            no probabilities; for numbers the difference relative to the larger of the two in magnitude, 0 to 2.
        absolute: the difference of numbers, without its sign; None for labels.
    """

    agree: bool
    distance: float | None
    absolute: float | None = None


def difference(live: Prediction, candidate: Prediction, tolerance: float) -> Difference:
    """Compare two answers of the same kind. `tolerance` is relative and says when two numbers agree."""
    if isinstance(live.output, float):
        return _of_numbers(live.output, float(candidate.output), tolerance)
    agree = label_text(live.output) == label_text(candidate.output)
    return Difference(agree, _of_probabilities(live.probabilities, candidate.probabilities))


def _of_numbers(live: float, candidate: float, tolerance: float) -> Difference:
    absolute = abs(live - candidate)
    scale = max(abs(live), abs(candidate))
    relative = absolute / scale if scale else 0.0
    return Difference(relative <= tolerance, relative, absolute)


def _of_probabilities(live: dict[str, float] | None, candidate: dict[str, float] | None) -> float | None:
    """A class that one of the two does not know has probability 0 there."""
    if live is None or candidate is None:
        return None
    return max(abs(live.get(key, 0.0) - candidate.get(key, 0.0)) for key in live.keys() | candidate.keys())


class Classes:
    """Names of answers for a confusion matrix of bounded size.

    The first ten labels keep their names, the others are "other". Numbers have no classes: the live one is
    "number", and the candidate's "higher" or "lower", or "number" where they agree.
    """

    def __init__(self, *labels: Sequence[Label]) -> None:
        texts = dict.fromkeys(label_text(label) for each in labels for label in each)
        self._named = {text: _short(text) for text in list(texts)[:_MOST_LABELS]}

    def pair(self, live: Prediction, candidate: Prediction, agree: bool) -> tuple[str, str]:
        """The classes of the live answer and of the candidate's."""
        if isinstance(live.output, float):
            side = HIGHER if float(candidate.output) > live.output else LOWER
            return NUMBER, NUMBER if agree else side
        return self._of(live), self._of(candidate)

    def _of(self, answer: Prediction) -> str:
        return self._named.get(label_text(answer.output), OTHER)


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST_LABEL else text[: _LONGEST_LABEL - 1] + "…"


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """The 95 % score interval of a proportion (E. B. Wilson, 1927); (0, 1) without any trial.

    Unlike the textbook interval it stays within 0 and 1 and keeps a width when all trials agree.
    """
    if trials == 0:
        return 0.0, 1.0
    share, z2 = successes / trials, _Z_95**2
    centre = (share + z2 / (2 * trials)) / (1 + z2 / trials)
    half = _Z_95 / (1 + z2 / trials) * math.sqrt(share * (1 - share) / trials + z2 / (4 * trials**2))
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    high = 1.0 if successes == trials else min(1.0, centre + half)
    return low, high


def bucket_quantile(buckets: Iterable[tuple[float, float]], q: float) -> float | None:
    """A quantile from (upper bound, cumulative count) pairs, interpolated as Prometheus' histogram_quantile does.

    None without any observation; the highest finite bound for what lies beyond it.
    """
    ordered = sorted(buckets)
    total = ordered[-1][1] if ordered else 0.0
    if not total:
        return None
    rank, below, lower = q * total, 0.0, 0.0
    for upper, count in ordered:
        if count >= rank and count > below:
            if math.isinf(upper):
                return lower
            return lower + (upper - lower) * (rank - below) / (count - below)
        below = count
        lower = lower if math.isinf(upper) else upper
    return lower
