"""A version that would refuse what is accepted today is told apart from one that accepts more."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from falcon_wsgi.models.compatibility import narrowings


def manifest(signature: dict[str, Any], kind: str = "tabular_classification") -> Any:
    return SimpleNamespace(kind=kind, signature=SimpleNamespace(model_dump=lambda mode: signature))


def text(**rules: Any) -> Any:
    return manifest({"type": "text", "min_length": 2, "max_length": 100, **rules}, "text_classification")


def row(*fields: dict[str, Any], **rules: Any) -> Any:
    return manifest({"type": "tabular", "input": "array", "fields": list(fields), **rules})


def number(name: str = "age", **rules: Any) -> dict[str, Any]:
    return {
        "name": name,
        "type": "number",
        "nullable": False,
        "description": None,
        "minimum": 0.0,
        "maximum": 10.0,
        **rules,
    }


def category(*values: Any, name: str = "colour") -> dict[str, Any]:
    return {"name": name, "type": "category", "nullable": False, "categories": list(values)}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (text(), text()),
        (text(), text(min_length=1, max_length=200)),
        (row(number()), row(number(minimum=-1.0, maximum=11.0))),
        (row(number()), row(number(minimum=None, maximum=None))),
        (row(number()), row(number(nullable=True))),
        (row(number(type="integer")), row(number())),
        (row(number()), row(number(description="in years"), input="frame")),
        (row(number()), row(number("height", nullable=True), number())),
        (row(number("a"), number("b")), row(number("b"), number("a"))),
        (row(category("red")), row(category("red", "blue"))),
    ],
)
def test_what_accepts_as_much_or_more_is_no_change(old: Any, new: Any) -> None:
    assert narrowings(old, new) == []


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (text(), text(max_length=50), "max_length is 50, not 100"),
        (text(), text(min_length=3), "min_length is 3, not 2"),
        (
            text(),
            row(number()),
            "its kind is tabular_classification, not text_classification",
        ),
        (row(number()), row(number(minimum=1.0)), "age: minimum is 1.0, not 0.0"),
        (row(number(maximum=None)), row(number()), "age: maximum is 10.0, not absent"),
        (row(number(nullable=True)), row(number()), "age: nullable is False, not True"),
        (row(number()), row(number(type="integer")), "age: its type is integer, not number"),
        (row(number(), number("b")), row(number()), "b is no longer a field"),
        (row(number()), row(number(), number("b")), "b is a new field that has to be given"),
        (
            row(category("red", "blue")),
            row(category("red")),
            "colour: categories is ['red'], not ['red', 'blue']",
        ),
        (row(number()), row(number(step=5)), "age: step is 5, not absent"),
    ],
)
def test_each_way_to_accept_less_is_named(old: Any, new: Any, told: str) -> None:
    assert narrowings(old, new) == [told]
