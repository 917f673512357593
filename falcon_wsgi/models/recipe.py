"""What a training recipe hands back, and how a recipe reads a user's own file.

A recipe is a Python file, `model_store/NAME/recipe.py`, with a `VERSION` and a function
`train(data: Path | None, progress: Callable[[str, float], None]) -> Trained`.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from falcon_wsgi.errors import TrainingDataInvalid
from falcon_wsgi.models.manifest import Kind
from falcon_wsgi.models.prediction import Label
from falcon_wsgi.models.signature import TabularSignature, TextSignature

MIN_LABELS = 2
MAX_LABELS = 50
MIN_ROWS_PER_LABEL = 2
MAX_LABEL_CHARS = 100


@dataclass(frozen=True, slots=True)
class Trained:
    """The outcome of a recipe.

    Attributes:
        estimator: fitted.
        kind: what it answers, about what.
        labels: the classes in the order of the estimator's own; none for a regressor.
        metrics: measured on rows kept out of training; JSON values only.
        golden_inputs: texts or rows whose answers the manifest records and every load reproduces.
        data: name, rows, licence and SHA-256 of what it was trained on; JSON values only.
        signature: what it accepts.
    """

    estimator: Any
    kind: Kind
    labels: tuple[Label, ...]
    metrics: dict[str, Any]
    golden_inputs: tuple[Any, ...]
    data: dict[str, Any]
    signature: TextSignature | TabularSignature = field(default_factory=TextSignature)


@dataclass(frozen=True, slots=True)
class LabelledTexts:
    """A file of labelled texts; `texts[i]` has `labels[i]`. `sha256` is of the file's bytes."""

    texts: list[str]
    labels: list[str]
    sha256: str


def read_labelled_texts(path: Path) -> LabelledTexts:
    """Read a CSV file (RFC 4180, UTF-8 with or without a byte order mark) with the columns `text` and `label`.

    Column names are matched without regard to case and surrounding blanks; other columns are ignored.

    Raises:
        TrainingDataInvalid: one line that names the file, the line where there is one, and the fault.
    """
    contents = _contents(path)
    texts: list[str] = []
    labels: list[str] = []
    first_line: dict[str, int] = {}
    for line, text, label in _rows(path.name, _decoded(path.name, contents)):
        fault = _fault(text, label)
        if fault:
            raise TrainingDataInvalid(f"{path.name}, line {line}: {fault}")
        texts.append(text)
        labels.append(label)
        first_line.setdefault(label, line)
    _check_labels(path.name, Counter(labels), first_line)
    return LabelledTexts(texts, labels, hashlib.sha256(contents).hexdigest())


def _fault(text: str, label: str) -> str | None:
    if not text:
        return "the text is empty"
    if not label:
        return "the label is empty"
    if len(label) > MAX_LABEL_CHARS:
        return f"the label is longer than {MAX_LABEL_CHARS} characters"
    return None


def _contents(path: Path) -> bytes:
    if path.is_dir():
        raise TrainingDataInvalid(f"{path.name} is a folder; a CSV file is needed")
    try:
        contents = path.read_bytes()
    except OSError as error:
        raise TrainingDataInvalid(f"{path.name} cannot be read: {error.strerror}") from error
    if not contents.strip():
        raise TrainingDataInvalid(f"{path.name} is empty")
    return contents


def _decoded(name: str, contents: bytes) -> str:
    nul = contents.find(b"\0")
    if nul >= 0:
        line = contents.count(b"\n", 0, nul) + 1
        raise TrainingDataInvalid(f"{name}, line {line}: a NUL byte; this is no CSV text file in UTF-8")
    try:
        return contents.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = contents.count(b"\n", 0, error.start) + 1
        raise TrainingDataInvalid(
            f"{name}, line {line}: not UTF-8 (byte 0x{contents[error.start]:02x})"
        ) from None


def _rows(name: str, document: str) -> Iterator[tuple[int, str, str]]:
    """(line on which the row starts, text, label), both stripped; blank lines are passed over."""
    reader = csv.reader(io.StringIO(document, newline=""), strict=True)
    started = 1
    columns: tuple[int, int] | None = None
    try:
        for row in reader:
            line, started = started, reader.line_num + 1
            if not any(cell.strip() for cell in row):
                continue
            if columns is None:
                columns = _columns(name, line, row)
                continue
            if len(row) <= max(columns):
                raise TrainingDataInvalid(
                    f"{name}, line {line}: {len(row)} column{'s'[: len(row) != 1]}; text and label are both needed"
                )
            yield line, row[columns[0]].strip(), row[columns[1]].strip()
    except csv.Error as error:
        raise TrainingDataInvalid(f"{name}, line {started}: not valid CSV: {error}") from None


def _columns(name: str, line: int, header: list[str]) -> tuple[int, int]:
    names = [cell.strip().lower() for cell in header]
    missing = [column for column in ("text", "label") if column not in names]
    if missing:
        found = ", ".join(names)[:80]
        raise TrainingDataInvalid(
            f"{name}, line {line}: the header has no column {' and no column '.join(missing)} (it has: {found})"
        )
    return names.index("text"), names.index("label")


def _check_labels(name: str, rows: Counter[str], first_line: dict[str, int]) -> None:
    if not rows:
        raise TrainingDataInvalid(f"{name} has a header but no rows")
    if len(rows) < MIN_LABELS:
        raise TrainingDataInvalid(
            f"{name} has only one label, {next(iter(rows))!r}; at least {MIN_LABELS} are needed"
        )
    if len(rows) > MAX_LABELS:
        raise TrainingDataInvalid(
            f"{name} has {len(rows)} different labels; at most {MAX_LABELS} are supported"
        )
    rarest = min(rows, key=lambda label: rows[label])
    if rows[rarest] < MIN_ROWS_PER_LABEL:
        raise TrainingDataInvalid(
            f"{name}, line {first_line[rarest]}: the only row with the label {rarest!r}; "
            f"each label needs at least {MIN_ROWS_PER_LABEL}"
        )
