"""Whether a model answers what its signature allows: asked before it is stored, not by the first client."""

from __future__ import annotations

import random
import warnings
from collections.abc import Sequence

from falcon_wsgi.errors import CandidateInvalid, PredictionFailed
from falcon_wsgi.models import probes
from falcon_wsgi.models.forms import Input, TabularForm, Value
from falcon_wsgi.models.served import ServedModel
from falcon_wsgi.models.signature import (
    LARGEST_INTEGER,
    LARGEST_NUMBER,
    NumberField,
    StringField,
    TabularSignature,
)

_BASES = 3
_SHOWN = 3
_LETTERS = "abcdefghij XYZ-_/0123456789.,äßñ漢字\u00a0😀"


def allowed(served: ServedModel, inputs: Sequence[Input]) -> list[Input]:
    """Inputs that the signature allows and that look like the examples: each field missing once where it may be,
    other texts, other categories, numbers nearby and at the bounds. The same each time."""
    signature = served.manifest.signature
    if not isinstance(signature, TabularSignature):
        return list(probes.TEXTS)
    bases = [row for row in inputs[:_BASES] if isinstance(row, tuple)]
    missing = [
        _with(row, place, None)
        for place, field in enumerate(signature.fields)
        if field.nullable
        for row in bases[:1]
    ]
    return [*missing, *probed(signature, inputs), *_other_texts(signature, bases)]


def probed(signature: TabularSignature, inputs: Sequence[Input]) -> list[Input]:
    """Rows between and around these, which the signature allows."""
    form = TabularForm(signature)
    rows = probes.rows(signature, inputs)
    return [form.validate(form.payload(row)) for row in rows]


def _other_texts(signature: TabularSignature, bases: Sequence[tuple[Value, ...]]) -> list[Input]:
    draw = random.Random(0)
    texts = ["", "?", " a  b ", "".join(draw.choice(_LETTERS) for _ in range(200))]
    return [
        _with(row, place, text[: field.max_length])
        for place, field in enumerate(signature.fields)
        if isinstance(field, StringField)
        for text in texts
        for row in bases[:1]
    ]


def require_answers(served: ServedModel, inputs: Sequence[Input]) -> None:
    """Raises CandidateInvalid for the first input that the model cannot answer."""
    if _all_answered(served, inputs):
        return
    for input_ in inputs:
        if reason := _reason(served, input_):
            raise CandidateInvalid(
                f"the signature allows {_shown(served, input_)}, which the model cannot answer ({reason}); "
                "narrow the field: its bounds, its categories, or nullable"
            )


def unanswered_extremes(served: ServedModel, inputs: Sequence[Input]) -> list[str]:
    """A line if there are fields whose lowest or highest allowed value the model cannot answer."""
    signature = served.manifest.signature
    if not isinstance(signature, TabularSignature):
        return []
    (base, *_) = (row for row in inputs if isinstance(row, tuple))
    extremes = [
        (field.name, end, _with(base, place, end))
        for place, field in enumerate(signature.fields)
        if isinstance(field, NumberField)
        for end in _ends(field)
    ]
    if not extremes or _all_answered(served, [row for _, _, row in extremes]):
        return []
    found = [(name, end, _reason(served, row)) for name, end, row in extremes]
    faults = [f"{name} = {end:g} ({reason})" for name, end, reason in found if reason]
    more = f" and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
    return [
        "the signature allows values that the model cannot answer, and a request with one ends with status 500: "
        f"{', '.join(faults[:_SHOWN])}{more}; give these fields bounds"
    ]


def _ends(field: NumberField) -> tuple[float, float]:
    largest = LARGEST_INTEGER if field.type == "integer" else LARGEST_NUMBER
    low = -largest if field.minimum is None else field.minimum
    high = largest if field.maximum is None else field.maximum
    return (int(low), int(high)) if field.type == "integer" else (low, high)


def _all_answered(served: ServedModel, inputs: Sequence[Input]) -> bool:
    try:
        _ask(served, inputs)
    except PredictionFailed:
        return False
    return True


def _reason(served: ServedModel, input_: Input) -> str | None:
    """Why the model cannot answer it; None if it can."""
    try:
        _ask(served, [input_])
    except PredictionFailed as error:
        cause = error.__cause__
        text = f"{type(cause).__name__}: {cause}" if cause is not None else str(error)
        return text.strip().splitlines()[0][:200]
    return None


def _ask(served: ServedModel, inputs: Sequence[Input]) -> None:
    """The answers do not matter. numpy warns of overflows, which are what is looked for here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        served.predictor.predict(inputs)


def _shown(served: ServedModel, input_: Input) -> str:
    return str(served.form.payload(input_))[:300]


def _with(row: tuple[Value, ...], place: int, value: Value) -> tuple[Value, ...]:
    return (*row[:place], value, *row[place + 1 :])
