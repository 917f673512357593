"""A model version in memory: verified, warmed, ready to answer."""

from __future__ import annotations

import gc
import time
from dataclasses import dataclass
from pathlib import Path
from string import ascii_lowercase
from typing import Any

from sklearn.feature_extraction.text import CountVectorizer

from falcon_wsgi.errors import GoldenMismatch, ManifestInvalid, PredictionFailed
from falcon_wsgi.models import loading, predictor
from falcon_wsgi.models.manifest import GoldenExample, Manifest
from falcon_wsgi.models.negation import tokenize
from falcon_wsgi.models.predictor import Predictor
from falcon_wsgi.models.signature import normalise_text

GOLDEN_TOLERANCE = 1e-6

# Longer than this for the longest input, and predictions run in a process of their own, off the event loop.
HEAVY_S = 0.010

# What a compiled form is proved on beside the golden inputs: repeats, negation, digits, scripts, no known word.
_PROBES = (
    "good",
    "not good not good at all",
    "the the the the bad bad good",
    "It isn't what I'd expected; it's GREAT!!! 10/10 :)",
    "naïve café — ünïcode, 日本語 текст \u00a0 \U0001f600",
    "12 34 56",
    "?!",
    "a b c d e f g h i j k l m n o p q r s t u v w x y z",
)


@dataclass(frozen=True, slots=True)
class ServedModel:
    """One version of one model.

    Attributes:
        heavy: one prediction takes over 10 ms for the longest input, or nothing bounds its time; such a
            model runs off the event loop.
        load_s: seconds from reading the files to the end of the warm-up.
    """

    manifest: Manifest
    digest: str
    predictor: Predictor
    heavy: bool
    load_s: float

    @property
    def name(self) -> str:
        return self.manifest.name

    @property
    def version(self) -> str:
        return self.manifest.version

    @classmethod
    def load(cls, folder: Path, manifest: Manifest) -> ServedModel:
        """Raises a leaf of ModelError: damaged, untrusted or missing files, or a missed golden example."""
        started = time.perf_counter()
        label = f"{manifest.name}/{manifest.version}"
        estimator = loading.load_estimator(folder, manifest)
        _check_kind(estimator, label)
        _keep_to_one_thread(estimator)
        longest = _longest_inputs(manifest)
        proof = [normalise_text(text) for text in (*golden_inputs(manifest), *_PROBES)] + longest
        chosen = predictor.build(estimator, label, proof)
        for example in manifest.golden:
            _check_golden(chosen, example, label)
        heavy = (
            chosen.name != "compiled"
            or not _tokenises_in_linear_time(estimator)
            or any(predictor.slowest_s(chosen, text) > HEAVY_S for text in longest)
        )
        del estimator
        gc.collect()
        return cls(manifest, manifest.digest, chosen, heavy, time.perf_counter() - started)


def golden_inputs(manifest: Manifest) -> list[str]:
    return [str(example.input) for example in manifest.golden]


def _longest_inputs(manifest: Manifest) -> list[str]:
    """As much as a request may hold: of words that the model knows, and of as many tokens as fit."""
    limit = manifest.signature.max_length
    words = " ".join(golden_inputs(manifest)) + " "
    pairs = (f"{a}{b} " for a in ascii_lowercase for b in ascii_lowercase)
    shortest = "".join(pairs)
    return [normalise_text((text * (limit // len(text) + 1))[:limit]) for text in (words, shortest)]


def _check_kind(estimator: Any, label: str) -> None:
    if not hasattr(estimator, "predict_proba") or not hasattr(estimator, "classes_"):
        raise ManifestInvalid(
            f"{label} is to classify text, but its file holds a {type(estimator).__name__}, "
            "which is no fitted classifier with probabilities"
        )


def _keep_to_one_thread(estimator: Any) -> None:
    """The workers already share out the cores; threads and processes of the model's own would fight with them."""
    parameters = estimator.get_params()
    estimator.set_params(**{name: 1 for name in parameters if name.split("__")[-1] == "n_jobs"})


def _tokenises_in_linear_time(pipeline: Any) -> bool:
    """Whether the longest input's time bounds that of any other.

    A regular expression of a user's own may take exponential time on one particular input.
    """
    vectorizer = pipeline.steps[0][1]
    if vectorizer.preprocessor is not None:
        return False
    if vectorizer.analyzer != "word":
        return vectorizer.analyzer in ("char", "char_wb")
    if vectorizer.tokenizer is not None:
        return vectorizer.tokenizer is tokenize
    return bool(vectorizer.token_pattern == CountVectorizer().token_pattern)


def _check_golden(chosen: Predictor, example: GoldenExample, label: str) -> None:
    try:
        answer = chosen.predict([normalise_text(str(example.input))])[0]
    except PredictionFailed as error:
        cause = error.__cause__
        raise GoldenMismatch(
            f"{label} cannot answer its golden example {str(example.input)[:60]!r}: {type(cause).__name__}"
        ) from cause
    found: dict[str, Any] = answer.probabilities or {}
    same_classes = found.keys() == example.probabilities.keys()
    close = same_classes and all(
        abs(found[key] - p) <= GOLDEN_TOLERANCE for key, p in example.probabilities.items()
    )
    if answer.output != example.prediction or not close:
        raise GoldenMismatch(
            f"{label} does not reproduce its golden example {str(example.input)[:60]!r}: "
            f"expected {example.prediction}, got {answer.output}"
            + ("" if answer.output != example.prediction else " with other probabilities")
        )
