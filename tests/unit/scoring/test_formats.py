"""Which format a name stands for."""

from __future__ import annotations

import pytest

from falcon_wsgi.errors import ScoringError
from falcon_wsgi.scoring.formats import Format, place_of


@pytest.mark.parametrize(
    ("name", "format_", "gzipped"),
    [
        ("a.csv", Format.CSV, False),
        ("a.CSV.GZ", Format.CSV, True),
        ("a.jsonl", Format.JSONL, False),
        ("a.ndjson.gz", Format.JSONL, True),
        ("a.b/c.parquet", Format.PARQUET, False),
    ],
)
def test_the_suffix_says_the_format(name: str, format_: Format, gzipped: bool) -> None:
    place = place_of(name, None, "--input-format")
    assert (place.format, place.gzipped, str(place.path)) == (format_, gzipped, name)


def test_a_named_format_wins_over_the_suffix() -> None:
    assert place_of("a.csv", "jsonl", "").format is Format.JSONL


def test_a_hyphen_is_a_stream() -> None:
    assert place_of("-", "csv", "").path is None


@pytest.mark.parametrize(
    ("name", "format_", "remedy"),
    [
        ("-", None, "--input-format"),
        ("a.txt", None, "--input-format"),
        ("-", "parquet", "name a file"),
        ("a.parquet.gz", None, "not read or written as .gz"),
    ],
)
def test_what_says_no_format_is_refused_with_the_remedy(name: str, format_: str | None, remedy: str) -> None:
    with pytest.raises(ScoringError, match=remedy):
        place_of(name, format_, "--input-format")
