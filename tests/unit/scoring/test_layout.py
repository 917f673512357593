"""Which columns are written, and what is refused before anything is read."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from falcon_wsgi.errors import InputUnreadable, ScoringError
from falcon_wsgi.models.signature import CategoryField, NumberField, TabularSignature, TextSignature
from falcon_wsgi.scoring.layout import kept_columns, labels_type, layout_of, require_columns, require_types


class Manifest:
    name = "m"
    labels: tuple[Any, ...] = ("no", "yes")

    def __init__(self, *, text: bool = False) -> None:
        fields = (
            NumberField(name="size", type="number"),
            CategoryField(name="kind", type="category", categories=("a",), nullable=True),
        )
        self.signature = TextSignature() if text else TabularSignature(fields=fields)


ROWS: Any = Manifest()
TEXTS: Any = Manifest(text=True)


def layout(kept: tuple[str, ...] | None, prefix: str = "", row_number: str | None = None) -> Any:
    return layout_of(ROWS, probabilities=True, kept=kept, prefix=prefix, row_number=row_number)


def test_answers_follow_what_is_kept() -> None:
    assert layout(("size",), row_number="n").added_names == (
        "n",
        "prediction",
        "confidence",
        "probability_no",
        "probability_yes",
    )


@pytest.mark.parametrize("taken", ["prediction", "confidence", "probability_yes"])
def test_a_kept_column_named_like_an_answer_is_refused_unless_answers_have_a_prefix(taken: str) -> None:
    with pytest.raises(ScoringError, match=f"two columns named {taken}; say --prefix"):
        layout((taken,))
    assert taken not in layout((taken,), prefix="my_").added_names


def test_the_row_number_needs_a_name_of_its_own() -> None:
    with pytest.raises(ScoringError, match="two columns named prediction"):
        layout((), row_number="prediction")


def test_keep_chooses_and_orders() -> None:
    assert kept_columns(("a", "b", "c"), ("c", "a", "c")) == ("c", "a")
    assert kept_columns(("a", "b"), None) == ("a", "b")
    assert kept_columns(("a", "b"), ()) == ()
    with pytest.raises(ScoringError, match="--keep names x"):
        kept_columns(("a",), ("x",))
    with pytest.raises(InputUnreadable, match="two columns named a"):
        kept_columns(("a", "a"), None)


def test_a_required_column_that_is_missing_is_named_with_those_that_are_there() -> None:
    require_columns(ROWS, ("size",), "text")
    with pytest.raises(InputUnreadable, match="no column size, which m needs; it has: kind, x"):
        require_columns(ROWS, ("kind", "x"), "text")
    with pytest.raises(InputUnreadable, match="no column text, which m needs; say --text-column"):
        require_columns(TEXTS, ("review",), "text")
    with pytest.raises(InputUnreadable, match="two columns named kind"):
        require_columns(ROWS, ("size", "kind", "kind"), "text")


@pytest.mark.parametrize("type_", [pa.float32(), pa.int8(), pa.decimal128(5, 2), pa.null()])
def test_any_type_of_number_is_a_number(type_: Any) -> None:
    require_types(ROWS, pa.schema([("size", type_), ("kind", pa.dictionary(pa.int8(), pa.string()))]), "text")


@pytest.mark.parametrize("type_", [pa.string(), pa.bool_(), pa.timestamp("s"), pa.list_(pa.float64())])
def test_a_parquet_column_that_can_hold_no_number_is_refused(type_: Any) -> None:
    with pytest.raises(InputUnreadable, match=r"the column size is of type .* m takes a number"):
        require_types(ROWS, pa.schema([("size", type_)]), "text")


def test_texts_of_parquet_are_texts() -> None:
    require_types(TEXTS, pa.schema([("text", pa.large_string())]), "text")
    with pytest.raises(InputUnreadable, match="takes text"):
        require_types(TEXTS, pa.schema([("text", pa.int64())]), "text")


def test_labels_of_one_type_keep_it() -> None:
    assert labels_type((1, 2)) == pa.int64()
    assert labels_type((True, False)) == pa.bool_()
    assert labels_type(("a", 1)) == pa.string()
