"""Rows of the request log as the journal holds them and Postgres takes them: lines in the text format of COPY.

To ship rows is then to join lines, and Postgres reads a line at a third of what the same row costs it as JSON.

Earlier versions wrote JSON objects joined by commas. Their journals are still shipped: an object starts with a
brace, a line with the first digit of its event id.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import orjson

# Fields of a line, in order: what all rows of a request share, then what is the row's own.
COLUMNS = {
    "event_id": "uuid",
    "created_at": "timestamptz",
    "request_id": "text",
    "worker_id": "text",
    "model": "text",
    "model_version": "text",
    "status": "smallint",
    "processing_time_ms": "double precision",
    "client_ip": "inet",
    "idempotency_key": "text",
    "success": "boolean",
    "idempotency_hit": "boolean",
    "inference_time_ms": "double precision",
    "error_type": "text",
    "error_message": "text",
    "batch_index": "smallint",
    "cache_hit": "boolean",
    "text_hash": "text",
    "text_length": "integer",
    "prediction": "text",
    "confidence": "double precision",
    "probabilities": "jsonb",
    "payload": "jsonb",
}
NULL = "\\N"

_ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})
_ESCAPED = re.compile(r"\\(.)")
_MEANT = {"t": "\t", "n": "\n", "r": "\r"}
_BOOLEANS = {"t": True, "f": False}
_STRINGS = {"uuid", "timestamptz", "text", "inet"}
_JSON_OBJECT = b"{"


def text(value: str) -> str:
    """A field that holds any characters."""
    # Nothing that needs an escape is printable but the backslash; to find that out is cheaper than to translate.
    return value if value.isprintable() and "\\" not in value else value.translate(_ESCAPES)


def boolean(value: bool) -> str:
    return "t" if value else "f"


def numbers(values: Sequence[float | None]) -> list[str]:
    """A field for each; NULL also for what is not finite. Floats come back exactly."""
    return orjson.dumps(values)[1:-1].decode().replace("null", NULL).split(",") if values else []


def document(value: Any) -> str:
    """A field of JSON; NULL for None."""
    if value is None:
        return NULL
    encoded = orjson.dumps(value).decode()  # escapes all control characters itself
    return encoded.replace("\\", "\\\\") if "\\" in encoded else encoded


def is_json(payload: bytes) -> bool:
    """Whether the rows are from an earlier version."""
    return payload.startswith(_JSON_OBJECT)


def as_json(payload: bytes) -> bytes:
    """The rows as JSON objects joined by commas; unchanged if that is what they are.

    Raises:
        ValueError: they are not lines of `COLUMNS`.
    """
    if is_json(payload):
        return payload
    lines = payload.decode().removesuffix("\n").split("\n")
    return b",".join([orjson.dumps(_row(line.split("\t"))) for line in lines])


def _row(fields: list[str]) -> dict[str, Any]:
    return {name: _value(field, kind) for (name, kind), field in zip(COLUMNS.items(), fields, strict=True)}


def _value(field: str, kind: str) -> Any:
    if field == NULL:
        return None
    if "\\" in field:
        field = _ESCAPED.sub(lambda match: _MEANT.get(match[1], match[1]), field)
    if kind in _STRINGS:
        return field
    # What is no boolean stays as it is: Postgres says what is wrong with it.
    return _BOOLEANS.get(field, field) if kind == "boolean" else orjson.loads(field)
