"""One chunk's story: parse, validate, ask the model, encode."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from falcon_wsgi.errors import DigestMismatch
from falcon_wsgi.models import libraries, loading
from falcon_wsgi.models.estimators import forget_column_names, keep_to_one_thread
from falcon_wsgi.models.forms import Input, TabularForm, TextForm, Value, issues_of, pointer_step
from falcon_wsgi.models.manifest import Manifest
from falcon_wsgi.models.matrix import is_numeric, matrix_of
from falcon_wsgi.models.prediction import Label, label_text
from falcon_wsgi.models.signature import (
    BooleanField,
    NumberField,
    TabularField,
    TabularSignature,
    TextSignature,
)
from falcon_wsgi.models.store import ModelStore
from falcon_wsgi.scoring import encoding, parquet_parts
from falcon_wsgi.scoring.answering import Answers, Ask, ask_for_each, asking, asking_predictor
from falcon_wsgi.scoring.cells import Column
from falcon_wsgi.scoring.chunk import Chunk, Part, Rejection, issue
from falcon_wsgi.scoring.formats import Format
from falcon_wsgi.scoring.layout import Layout, column_type, labels_type, layout_of, output_schema
from falcon_wsgi.scoring.rows import Indexes, JsonRows, Rows, rows_of

_UNANSWERED = issue("the model could not answer this row", "prediction_failed")


@dataclass(frozen=True, slots=True)
class Job:
    """All that a process has to know to score chunks; it can be sent to another machine.

    Attributes:
        columns: of the input; None for JSON Lines.
        input_schema: an Arrow schema, of a Parquet input.
        kept: columns that go to the output; None where JSON objects are kept whole.
    """

    store: Path
    name: str
    version: str
    digest: str
    input_format: Format
    output_format: Format
    output_gzipped: bool
    columns: tuple[str, ...] | None
    input_schema: Any
    kept: tuple[str, ...] | None
    text_column: str
    prefix: str
    row_number: str | None


class Scorer:
    """A loaded model and how its answers are written."""

    def __init__(self, job: Job) -> None:
        """Load and verify the version as a server would.

        Raises:
            ModelError: one of its leaves; DigestMismatch if the store has another version under that number now.
            ScoringError: two columns of the output would have one name.
        """
        store = ModelStore(job.store)
        served = store.load(job.name, job.version)
        if served.digest != job.digest:
            raise DigestMismatch(f"{job.name} {job.version} is another model than when the run began")
        self._job = job
        self._manifest: Manifest = served.manifest
        self._form = served.form
        self._ask: Ask
        if isinstance(served.form, TextForm) and served.predictor.name == "compiled":
            self._ask = asking_predictor(served.predictor, served.manifest)
            probabilities = served.manifest.classifies
        else:
            estimator = _estimator(store.folder(job.name) / job.version, served.manifest)
            self._ask = asking(estimator, served.manifest, self._matrix())
            probabilities = served.manifest.classifies and hasattr(estimator, "predict_proba")
        self.layout: Layout = layout_of(
            served.manifest,
            probabilities=probabilities,
            kept=job.kept,
            prefix=job.prefix,
            row_number=job.row_number,
        )
        self._labels = _writable_labels(served.manifest)

    def score(self, chunk: Chunk) -> Part:
        rows = rows_of(chunk, self._job.input_format, self._job.columns)
        inputs, columns, places, refused = self._validated(rows)
        answers = ask_for_each(self._ask, inputs) if len(places) else None
        if answers is not None and answers.failed.any():
            refused += [rows.rejection(int(at), _UNANSWERED) for at in places[answers.failed]]
            left = ~answers.failed
            columns = [_selected(column, left) for column in columns]
            places, answers = places[left], _answers_at(answers, left)
        rejections = sorted(rows.broken + refused, key=lambda rejection: rejection.index)
        body, footer = self._encoded(rows, columns, places, answers, chunk.start.row)
        return Part(
            rows=chunk.rows,
            rejected=len(rejections),
            body=encoding.gzipped(body) if self._job.output_gzipped else body,
            footer=footer,
            rejects=b"".join(rejection.encoded(chunk.start.row) for rejection in rejections),
        )

    def beginning(self) -> bytes:
        """What an output begins with."""
        if self._job.output_format is Format.PARQUET:
            return parquet_parts.MAGIC
        if self._job.output_format is Format.JSONL:
            return b""
        header = encoding.csv_header([*(self.layout.kept or ()), *self.layout.added_names])
        return encoding.gzipped(header) if self._job.output_gzipped else header

    @property
    def schema(self) -> Any:
        """The Arrow schema of a Parquet output."""
        job = self._job
        return output_schema(self.layout, self._manifest, job.input_schema, job.input_format)

    def _matrix(self) -> Any:
        """Like the server's; numeric rows are an array already."""
        signature = self._manifest.signature
        if isinstance(signature, TextSignature) or not _is_array(signature):
            return matrix_of(signature)
        dtype = matrix_of(signature)([(0.0,) * len(signature.fields)]).dtype
        return lambda rows: rows.astype(dtype, copy=False)

    def _validated(self, rows: Rows) -> tuple[Any, list[Column], Indexes, list[Rejection]]:
        """Inputs, their fields' columns (none for texts), their places among the rows, and what is refused."""
        collisions = self._collisions(rows)
        if isinstance(self._form, TextForm):
            inputs, places, refused = self._texts_of(rows, self._form, collisions)
            return inputs, [], places, refused
        return self._rows_of(rows, self._form, collisions)

    def _texts_of(
        self, rows: Rows, form: TextForm, refused: dict[int, list[dict[str, str]]]
    ) -> tuple[list[Input], Indexes, list[Rejection]]:
        name = self._job.text_column
        inputs: list[Input] = []
        places: list[int] = []
        for at, text in enumerate(rows.texts(name)):
            if at in refused:
                continue
            try:
                inputs.append(form.normalise(form.validate(text)))
            except ValidationError as error:
                refused[at] = _issues(error, pointer_step(name), rows.has(at, name))
            else:
                places.append(at)
        return inputs, np.array(places, dtype=np.int64), _refusals(rows, refused)

    def _rows_of(
        self, rows: Rows, form: TabularForm, refused: dict[int, list[dict[str, str]]]
    ) -> tuple[Any, list[Column], Indexes, list[Rejection]]:
        signature = self._manifest.signature
        assert isinstance(signature, TabularSignature)
        columns = [rows.checked(field) for field in signature.fields]
        fine = np.ones(len(rows.indexes), dtype=np.bool_)
        for column in columns:
            fine &= column.fine
        flagged = np.flatnonzero(~fine).tolist()
        if flagged:
            columns = [_writable(column) for column in columns]
        for at in flagged:
            if at in refused:
                continue
            try:
                row = form.validate(rows.sent(at, signature.fields))
            except ValidationError as error:
                refused[at] = issues_of(error.errors(include_url=False, include_context=False))
            else:
                fine[at] = True
                for column, value in zip(columns, row, strict=True):
                    missing = math.nan if isinstance(column.values, np.ndarray) else None
                    column.values[at] = missing if value is None else value
        fine[list(refused)] = False
        columns = [_selected(column, fine) for column in columns]
        places = np.flatnonzero(fine)
        return _inputs(signature, columns), columns, places, _refusals(rows, refused)

    def _collisions(self, rows: Rows) -> dict[int, list[dict[str, str]]]:
        """Whole JSON objects that have a member of an answer's name."""
        if self._job.kept is not None or not isinstance(rows, JsonRows):
            return {}
        added = frozenset(self.layout.added_names)
        return {
            at: issue(
                "the row has a field of this name already; say --prefix TEXT",
                "name_taken",
                pointer_step(min(taken)),
            )
            for at, row in enumerate(rows.objects)
            if (taken := added & row.keys())
        }

    def _encoded(
        self, rows: Rows, columns: Sequence[Column], places: Indexes, answers: Answers | None, first_row: int
    ) -> tuple[bytes, bytes]:
        if answers is None or not len(places):
            return b"", b""
        added = self._answer_columns(answers, rows.indexes[places] + (first_row + 1))
        output = self._job.output_format
        names = self.layout.added_names
        if output is Format.JSONL and isinstance(rows, JsonRows):
            return encoding.json_objects(rows.written(self.layout.kept, places), names, added), b""
        kept = list(self._kept(rows, columns, places))
        if output is Format.JSONL:
            return encoding.json_body([*(self.layout.kept or ()), *names], [*kept, *added]), b""
        if output is Format.CSV:
            return encoding.csv_body([*kept, *added]), b""
        return parquet_parts.row_group(_table([*kept, *added], self.schema))

    def _answer_columns(self, answers: Answers, numbers: Indexes) -> list[Any]:
        """Arrow arrays in the order of the layout."""
        import pyarrow as pa

        found: dict[str, Any] = {"row": [numbers], "prediction": [answers.outputs]}
        if len(self._labels):
            labels = pa.array(self._labels, type=labels_type(self._manifest.labels))
            found["prediction"] = [labels.take(pa.array(answers.outputs))]
        if answers.probabilities is not None:
            found["confidence"] = [answers.probabilities[np.arange(len(numbers)), answers.outputs]]
            found["probability"] = list(answers.probabilities.T)
        return [pa.array(found[kind].pop(0)) for _, kind in self.layout.added]

    def _kept(self, rows: Rows, columns: Sequence[Column], places: Indexes) -> Iterator[Any]:
        """Where the input has no types and the output has, a field of the model has its own; the rest is text."""
        fields = {f.name: i for i, f in enumerate(getattr(self._manifest.signature, "fields", ()))}
        formats = (self._job.input_format, self._job.output_format)
        as_it_is = formats[0] is Format.PARQUET or formats == (Format.CSV, Format.CSV)
        for name in self.layout.kept or ():
            if name in fields and not as_it_is:
                field = self._manifest.signature.fields[fields[name]]  # type: ignore[union-attr]
                yield _field_array(field, columns[fields[name]])
            else:
                yield rows.kept(name, places)


def _writable_labels(manifest: Manifest) -> list[Label]:
    """As they are written: where they are of several types, the text of each."""
    several = len(set(map(type, manifest.labels))) > 1
    return [label_text(label) if several else label for label in manifest.labels]


def _estimator(folder: Path, manifest: Manifest) -> Any:
    estimator, _ = libraries.quietly(lambda: loading.load_estimator(folder, manifest))
    keep_to_one_thread(estimator)
    if isinstance(manifest.signature, TabularSignature) and manifest.signature.input == "array":
        forget_column_names(estimator)
    return estimator


def _is_array(signature: TabularSignature) -> bool:
    """Whether rows are one array of floats from the beginning."""
    return signature.input == "array" and is_numeric(signature)


def _inputs(signature: TabularSignature, columns: Sequence[Column]) -> Any:
    if _is_array(signature):
        return np.column_stack([np.asarray(column.values) for column in columns])
    values = [_listed(field, column) for field, column in zip(signature.fields, columns, strict=True)]
    return list(zip(*values, strict=True))


def _listed(field: Any, column: Column) -> list[Value]:
    """The values as the form has them: float, int, bool or str, and None where missing."""
    if isinstance(column.values, list):
        return column.values
    values = column.values.tolist()
    if isinstance(field, BooleanField):
        return [None if value != value else value == 1.0 for value in values]
    if isinstance(field, NumberField) and field.type == "integer":
        return [None if value != value else int(value) for value in values]
    return [None if value != value else value for value in values]


def _writable(column: Column) -> Column:
    values = column.values
    return Column(values.copy() if isinstance(values, np.ndarray) else values, column.fine)


def _selected(column: Column, chosen: Any) -> Column:
    if isinstance(column.values, np.ndarray):
        return Column(column.values[chosen], column.fine[chosen])
    values = [value for value, keep in zip(column.values, chosen.tolist(), strict=True) if keep]
    return Column(values, column.fine[chosen])


def _answers_at(answers: Answers, chosen: Any) -> Answers:
    table = answers.probabilities
    return Answers(answers.outputs[chosen], None if table is None else table[chosen], answers.failed[chosen])


def _issues(error: ValidationError, pointer: str, present: bool) -> list[dict[str, str]]:
    if not present:
        return issue("Field required", "missing", pointer)
    return issues_of(error.errors(include_url=False, include_context=False), at=pointer)


def _refusals(rows: Rows, refused: Mapping[int, list[dict[str, str]]]) -> list[Rejection]:
    return [rows.rejection(at, issues) for at, issues in refused.items()]


def _field_array(field: TabularField, column: Column) -> Any:
    import pyarrow as pa

    type_ = column_type(field)
    if isinstance(column.values, np.ndarray):
        return pa.array(column.values, from_pandas=True).cast(type_)
    values = column.values
    if pa.types.is_string(type_):
        values = [None if value is None else label_text(value) for value in values]  # type: ignore[arg-type]
    return pa.array(values, type=type_)


def _table(arrays: Sequence[Any], schema: Any) -> Any:
    import pyarrow as pa

    cast = [a if a.type == type_ else a.cast(type_) for a, type_ in zip(arrays, schema.types, strict=True)]
    return pa.Table.from_arrays(cast, schema=schema)
