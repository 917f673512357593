"""What kind of file an input or output is."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from falcon_wsgi.errors import ScoringError


class Format(StrEnum):
    CSV = "csv"
    JSONL = "jsonl"
    PARQUET = "parquet"


_SUFFIXES = {
    ".csv": Format.CSV,
    ".jsonl": Format.JSONL,
    ".ndjson": Format.JSONL,
    ".parquet": Format.PARQUET,
}


@dataclass(frozen=True, slots=True)
class Place:
    """A file, or with no `path` a standard stream."""

    path: Path | None
    format: Format
    gzipped: bool

    @property
    def shown(self) -> str:
        return str(self.path) if self.path else "-"


def place_of(given: str, format_: str | None, option: str) -> Place:
    """Where to read or write. `option` is what names the format explicitly.

    Raises:
        ScoringError: nothing says the format, or the combination does not exist.
    """
    path = None if given == "-" else Path(given)
    name = path.name.lower() if path else ""
    gzipped = name.endswith(".gz")
    suffix = Path(name.removesuffix(".gz")).suffix
    found = Format(format_) if format_ else _SUFFIXES.get(suffix)
    if found is None:
        what = "a stream has no suffix" if path is None else f"{given} has none of {', '.join(_SUFFIXES)}"
        raise ScoringError(f"{what}; say the format with {option}")
    if found is Format.PARQUET and (gzipped or path is None):
        raise ScoringError(
            "Parquet cannot be a stream; name a file"
            if path is None
            else "Parquet is not read or written as .gz"
        )
    return Place(path, found, gzipped)
