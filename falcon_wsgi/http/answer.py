"""A whole answer, before any framework has seen it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

JSON = "application/json"


class Answer(NamedTuple):
    """Status, body and the headers beside Content-Type and Content-Length."""

    status: int
    body: bytes
    content_type: str = JSON
    headers: Sequence[tuple[str, str]] = ()


Handler = Callable[[dict[str, Any]], Answer]
"""Answers one route from the WSGI environ. Raises a FalconError where there is no answer."""
