"""A model version in memory: verified, warmed, ready to answer."""

from __future__ import annotations

import gc
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from string import ascii_lowercase
from typing import Any

from pydantic import ValidationError

from falcon_wsgi.errors import GoldenMismatch, ManifestInvalid, PredictionFailed
from falcon_wsgi.models import libraries, loading, predictor, probes
from falcon_wsgi.models.estimators import forget_column_names, keep_to_one_thread
from falcon_wsgi.models.forms import Input, TabularForm, TextForm, form_of, normalise_text
from falcon_wsgi.models.grams import splits_in_linear_time
from falcon_wsgi.models.manifest import GoldenExample, Manifest
from falcon_wsgi.models.prediction import Prediction
from falcon_wsgi.models.predictor import CompiledPredictor, Predictor
from falcon_wsgi.models.signature import TabularSignature, TextSignature

log = logging.getLogger(__name__)

GOLDEN_TOLERANCE = 1e-6

# Longer than this for the longest input, and predictions run in a process of their own, off the event loop.
HEAVY_S = 0.010
# Rows of one call that must be done in that time, where rows are what a model takes.
_ROWS = 64


@dataclass(frozen=True, slots=True)
class ServedModel:
    """One version of one model.

    Attributes:
        form: checks inputs against the signature and puts them into their normal form.
        heavy: the largest call takes over 10 ms, or nothing bounds its time; such a model runs off the event loop.
        load_s: seconds from reading the files to the end of the warm-up.
    """

    manifest: Manifest
    digest: str
    form: TextForm | TabularForm
    predictor: Predictor
    heavy: bool
    load_s: float

    @property
    def name(self) -> str:
        return self.manifest.name

    @property
    def version(self) -> str:
        return self.manifest.version

    @property
    def at_once(self) -> bool:
        """Whether a request had best be answered at once: nothing is saved by letting it wait for others."""
        return not self.heavy and isinstance(self.predictor, CompiledPredictor) and self.predictor.one_by_one

    @classmethod
    def load(cls, folder: Path, manifest: Manifest) -> ServedModel:
        """Raises a leaf of ModelError: damaged, untrusted or missing files, or a missed golden example."""
        started = time.perf_counter()
        estimator, _ = libraries.quietly(lambda: loading.load_estimator(folder, manifest))
        keep_to_one_thread(estimator)
        form = form_of(manifest.signature)
        golden = golden_inputs(manifest, form)
        if isinstance(manifest.signature, TextSignature):
            chosen, heavy = _text_predictor(estimator, manifest, golden)
        else:
            chosen, heavy = _row_predictor(estimator, manifest, golden)
        label = f"{manifest.name}/{manifest.version}"
        for difference in libraries.skew(manifest.libraries):
            log.warning("model_library_differs", extra={"model": label, "reason": difference})
        for input_, example in zip(golden, manifest.golden, strict=True):
            _check_golden(chosen, input_, example, label)
        del estimator
        gc.collect()
        return cls(manifest, manifest.digest, form, chosen, heavy, time.perf_counter() - started)


def golden_inputs(manifest: Manifest, form: TextForm | TabularForm) -> list[Input]:
    """The normalised inputs of the golden examples.

    Raises:
        ManifestInvalid: one does not fit the signature.
    """
    try:
        return [form.normalise(form.validate(example.input)) for example in manifest.golden]
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = "".join(f"/{part}" for part in first["loc"])
        raise ManifestInvalid(
            f"{manifest.name}/{manifest.version}: a golden example does not fit the signature: "
            f"{where}{': ' if where else ''}{first['msg']}"
        ) from error


def _text_predictor(estimator: Any, manifest: Manifest, golden: Sequence[Input]) -> tuple[Predictor, bool]:
    """The predictor, and whether it is heavy."""
    longest = _longest_texts(manifest, golden)
    proof = [*golden, *probes.TEXTS, *longest]
    chosen = predictor.build(estimator, manifest, proof)
    heavy = (
        chosen.name != "compiled"
        or not splits_in_linear_time(estimator.steps[0][1])
        or any(predictor.slowest_s(chosen, [text]) > HEAVY_S for text in longest)
    )
    return chosen, heavy


def _row_predictor(estimator: Any, manifest: Manifest, golden: Sequence[Input]) -> tuple[Predictor, bool]:
    """The predictor, and whether it is heavy. All rows have one size, so the golden ones show what a row costs."""
    assert isinstance(manifest.signature, TabularSignature)
    if manifest.signature.input == "array":
        forget_column_names(estimator)
    chosen = predictor.build(estimator, manifest, [*golden, *probes.rows(manifest.signature, golden)])
    rows = (list(golden) * (_ROWS // len(golden) + 1))[:_ROWS]
    try:
        return chosen, predictor.slowest_s(chosen, rows) > HEAVY_S
    except PredictionFailed as error:
        raise _unanswered(golden[0], f"{manifest.name}/{manifest.version}", error) from error.__cause__


def _longest_texts(manifest: Manifest, golden: Sequence[Input]) -> list[str]:
    """As much as a request may hold: of words that the model knows, and of as many tokens as fit."""
    assert isinstance(manifest.signature, TextSignature)
    limit = manifest.signature.max_length
    words = " ".join(map(str, golden)) + " "
    pairs = (f"{a}{b} " for a in ascii_lowercase for b in ascii_lowercase)
    shortest = "".join(pairs)
    return [normalise_text((text * (limit // len(text) + 1))[:limit]) for text in (words, shortest)]


def _check_golden(chosen: Predictor, input_: Input, example: GoldenExample, label: str) -> None:
    try:
        answer = chosen.predict([input_])[0]
    except PredictionFailed as error:
        raise _unanswered(input_, label, error) from error.__cause__
    if not reproduces(answer, example):
        same_output = _equal(answer.output, example.prediction)
        raise GoldenMismatch(
            f"{label} does not reproduce its golden example {str(input_)[:60]!r}: "
            f"expected {example.prediction}, got {answer.output}"
            + (" with other probabilities" if same_output else "")
        )


def reproduces(answer: Prediction, example: GoldenExample) -> bool:
    """Whether it is the recorded answer, but for rounding of at most 1e-6."""
    return _equal(answer.output, example.prediction) and _close(answer, example)


def _unanswered(input_: Input, label: str, error: PredictionFailed) -> GoldenMismatch:
    cause = type(error.__cause__).__name__ if error.__cause__ else str(error)
    return GoldenMismatch(f"{label} cannot answer its golden example {str(input_)[:60]!r}: {cause}")


def _equal(found: Any, expected: Any) -> bool:
    """Labels are equal or not; a regressor's value may differ by rounding."""
    if isinstance(found, float) and isinstance(expected, int | float):
        return bool(abs(found - expected) <= GOLDEN_TOLERANCE * max(1.0, abs(expected)))
    return type(found) is type(expected) and found == expected


def _close(answer: Prediction, example: GoldenExample) -> bool:
    found, expected = answer.probabilities, example.probabilities
    if found is None or expected is None:
        return found is expected
    return found.keys() == expected.keys() and all(
        abs(found[key] - p) <= GOLDEN_TOLERANCE for key, p in expected.items()
    )
