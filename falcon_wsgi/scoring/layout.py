"""The columns of the output: those kept of the input, and those of the answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from falcon_wsgi.errors import InputUnreadable, ScoringError
from falcon_wsgi.models.manifest import Manifest
from falcon_wsgi.models.prediction import label_text
from falcon_wsgi.models.signature import (
    BooleanField,
    CategoryField,
    NumberField,
    StringField,
    TabularField,
    TabularSignature,
)
from falcon_wsgi.scoring.formats import Format

Kind = Literal["row", "prediction", "confidence", "probability"]


@dataclass(frozen=True, slots=True)
class Layout:
    """What is written, in this order.

    Attributes:
        kept: columns of the input; None where each JSON object is kept whole.
        added: the answers' columns, each with its kind.
    """

    kept: tuple[str, ...] | None
    added: tuple[tuple[str, Kind], ...]

    @property
    def added_names(self) -> tuple[str, ...]:
        return tuple(name for name, _ in self.added)


def layout_of(
    manifest: Manifest,
    *,
    probabilities: bool,
    kept: tuple[str, ...] | None,
    prefix: str,
    row_number: str | None,
) -> Layout:
    """Raises ScoringError where two columns would have one name."""
    added: list[tuple[str, Kind]] = [(row_number, "row")] if row_number else []
    added.append((f"{prefix}prediction", "prediction"))
    if probabilities:
        added.append((f"{prefix}confidence", "confidence"))
        added += [(f"{prefix}probability_{label_text(label)}", "probability") for label in manifest.labels]
    names = [name for name, _ in added]
    twice = sorted(({*names} & {*(kept or ())}) | {name for name in names if names.count(name) > 1})
    if twice:
        raise ScoringError(
            f"the output would have two columns named {twice[0]}; say --prefix TEXT to name the answers "
            "otherwise, or --keep to leave columns of the input out"
        )
    return Layout(kept, tuple(added))


def kept_columns(columns: tuple[str, ...] | None, keep: Sequence[str] | None) -> tuple[str, ...] | None:
    """The columns of the input that go to the output, in its order or in that of `keep`.

    Raises:
        ScoringError: there is no such column, or two have one name.
    """
    if keep is None:
        wanted = columns
    else:
        unknown = [name for name in keep if columns is not None and name not in columns]
        if unknown:
            raise ScoringError(f"--keep names {unknown[0]}, which the input does not have")
        wanted = tuple(dict.fromkeys(keep))
    for name in wanted or ():
        if columns is not None and columns.count(name) > 1:
            raise InputUnreadable(f"the input has two columns named {name}")
    return wanted


def needed_columns(manifest: Manifest, text_column: str) -> tuple[str, ...]:
    """The columns that the model reads, those that may be missing too."""
    signature = manifest.signature
    return signature.names if isinstance(signature, TabularSignature) else (text_column,)


def require_columns(manifest: Manifest, columns: tuple[str, ...], text_column: str) -> None:
    """Raises InputUnreadable where the model cannot be given what it needs from these columns."""
    signature = manifest.signature
    if isinstance(signature, TabularSignature):
        read = [field.name for field in signature.fields]
        needed = [field.name for field in signature.fields if not field.nullable]
        hint = ""
    else:
        read = needed = [text_column]
        hint = "; say --text-column NAME"
    missing = [name for name in needed if name not in columns]
    if missing:
        names = ", ".join(missing[:10])
        raise InputUnreadable(
            f"the input has no column {names}, which {manifest.name} needs{hint}; "
            f"it has: {', '.join(columns[:40]) or 'none'}"
        )
    twice = [name for name in read if columns.count(name) > 1]
    if twice:
        raise InputUnreadable(f"the input has two columns named {twice[0]}")


def require_types(manifest: Manifest, schema: Any, text_column: str) -> None:
    """Raises InputUnreadable where a Parquet column can hold no value that its field takes."""
    import pyarrow as pa

    signature = manifest.signature
    fields = signature.fields if isinstance(signature, TabularSignature) else ()
    for name, wanted in [(f.name, _what(f)) for f in fields] or [(text_column, "text")]:
        if name not in schema.names:
            continue
        found = schema.field(name).type
        inner = found.value_type if pa.types.is_dictionary(found) else found
        if not pa.types.is_null(inner) and not (_kinds(inner) & _TAKEN[wanted]):
            raise InputUnreadable(
                f"the column {name} is of type {found}, where {manifest.name} takes {wanted}"
            )


_TAKEN = {
    "a number": {"number"},
    "true or false": {"boolean"},
    "a category": {"number", "boolean", "text"},
    "text": {"text"},
}


def _what(field: TabularField) -> str:
    match field:
        case NumberField():
            return "a number"
        case BooleanField():
            return "true or false"
        case CategoryField():
            return "a category"
        case StringField():
            return "text"


def _kinds(type_: Any) -> set[str]:
    from pyarrow import types

    if types.is_integer(type_) or types.is_floating(type_) or types.is_decimal(type_):
        return {"number"}
    if types.is_boolean(type_):
        return {"boolean"}
    if types.is_string(type_) or types.is_large_string(type_) or types.is_string_view(type_):
        return {"text"}
    return set()


def column_type(field: TabularField) -> Any:
    """The Arrow type in which a field of a text file is written to Parquet."""
    import pyarrow as pa

    match field:
        case NumberField(type="integer"):
            return pa.int64()
        case NumberField():
            return pa.float64()
        case BooleanField():
            return pa.bool_()
        case CategoryField():
            return labels_type(field.categories)
        case StringField():
            return pa.string()


def labels_type(labels: Sequence[Any]) -> Any:
    """The Arrow type of labels or categories: the text of each where they are of several types."""
    import pyarrow as pa

    types = set(map(type, labels))
    return {frozenset({bool}): pa.bool_(), frozenset({int}): pa.int64()}.get(frozenset(types), pa.string())


def output_schema(layout: Layout, manifest: Manifest, input_schema: Any, input_format: Format) -> Any:
    """Of a Parquet output."""
    import pyarrow as pa

    fields = {f.name: f for f in getattr(manifest.signature, "fields", ())}
    columns = []
    for name in layout.kept or ():
        if input_format is Format.PARQUET:
            columns.append(input_schema.field(name))
        else:
            columns.append((name, column_type(fields[name]) if name in fields else pa.string()))
    answers = {
        "row": pa.int64(),
        "prediction": labels_type(manifest.labels) if manifest.labels else pa.float64(),
    }
    columns += [(name, answers.get(kind, pa.float64())) for name, kind in layout.added]
    return pa.schema(columns)
