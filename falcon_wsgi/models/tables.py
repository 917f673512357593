"""A file of example rows: CSV, JSON Lines or Parquet."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from falcon_wsgi.errors import CandidateInvalid
from falcon_wsgi.models import columns
from falcon_wsgi.models.columns import Examples


def read(path: Path, without: Sequence[str] = ()) -> Examples:
    """The rows of the file, without the columns named; texts where one column of them is left, called text.

    Raises:
        CandidateInvalid: it cannot be read, has no rows, or not those columns.
    """
    frame = _frame(path)
    unknown = sorted(set(without) - set(map(str, frame.columns)))
    if unknown:
        raise CandidateInvalid(
            f"{path.name} has no column {', '.join(unknown)}; it has {', '.join(map(str, frame.columns))}"
        )
    frame = frame.drop(columns=list(without))
    texts = list(frame.columns) == ["text"] and len(frame) > 0 and not frame["text"].isna().any()
    try:
        return columns.read(frame["text"] if texts else frame, None)
    except CandidateInvalid as error:
        raise CandidateInvalid(f"{path.name}: {error}") from None


def _frame(path: Path) -> Any:
    import pandas as pd

    readers: dict[str, Callable[[Path], Any]] = {
        ".csv": pd.read_csv,
        ".jsonl": lambda file: pd.DataFrame(_objects(file)),
        ".ndjson": lambda file: pd.DataFrame(_objects(file)),
        ".parquet": pd.read_parquet,
    }
    if path.suffix not in readers:
        raise CandidateInvalid(f"{path.name} must end in one of {', '.join(readers)}")
    try:
        return readers[path.suffix](path)
    except OSError as error:
        raise CandidateInvalid(f"{path.name} cannot be read: {error.strerror or error}") from None
    except ValueError as error:  # also pandas' ParserError, EmptyDataError and pyarrow's ArrowInvalid
        reason = str(error).strip().splitlines()[0][:200]
        raise CandidateInvalid(f"{path.name} cannot be read: {reason}") from None


def _objects(path: Path) -> list[dict[str, Any]]:
    """Types are those of JSON; pandas' own reader would turn texts into dates and numbers."""
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except ValueError as error:
            raise ValueError(f"line {number} is not JSON: {error}") from None
        if not isinstance(value, dict):
            raise ValueError(f"line {number} is not a JSON object")
        found.append(value)
    return found
