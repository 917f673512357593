"""Inputs on which a compiled form is proved equal to the library's, beside the golden ones."""

from __future__ import annotations

import random
from collections.abc import Sequence

from falcon_wsgi.models.forms import Input, Value, normalise_text
from falcon_wsgi.models.signature import (
    BooleanField,
    CategoryField,
    NumberField,
    TabularField,
    TabularSignature,
)

# Repeats, negation, digits, scripts, no known word.
TEXTS = tuple(
    map(
        normalise_text,
        (
            "good",
            "not good not good at all",
            "the the the the bad bad good",
            "It isn't what I'd expected; it's GREAT!!! 10/10 :)",
            "naïve café — ünïcode, 日本語 текст \u00a0 \U0001f600",
            "12 34 56",
            "?!",
            "a b c d e f g h i j k l m n o p q r s t u v w x y z",
        ),
    )
)
_ROWS = 64


def rows(signature: TabularSignature, golden: Sequence[Input]) -> list[Input]:
    """Rows that mix the golden rows' values, values near them, and the bounds of the fields; the same each time."""
    draw = random.Random(0)
    columns = list(zip(*golden, strict=True))
    return [
        tuple(
            _value(field, draw.choice(column), draw)
            for field, column in zip(signature.fields, columns, strict=True)
        )
        for _ in range(_ROWS)
    ]


def _value(field: TabularField, golden: Value, draw: random.Random) -> Value:
    if field.nullable and draw.random() < 0.1:
        return None
    match field:
        case NumberField():
            return _number(field, golden, draw)
        case BooleanField():
            return draw.random() < 0.5
        case CategoryField():
            return draw.choice(field.categories)
    return golden


def _number(field: NumberField, golden: Value, draw: random.Random) -> float:
    base = float(golden or 0)
    bounds = [bound for bound in (field.minimum, field.maximum) if bound is not None]
    kind = draw.random()
    if kind < 0.1 and bounds:
        value = draw.choice(bounds)
    elif kind < 0.4 and len(bounds) == 2:
        value = draw.uniform(*bounds)
    else:
        value = draw.choice((base, base * draw.uniform(0.5, 2.0), base + draw.uniform(-1.0, 1.0)))
    if field.minimum is not None:
        value = max(value, field.minimum)
    if field.maximum is not None:
        value = min(value, field.maximum)
    return round(value) if field.type == "integer" else value
