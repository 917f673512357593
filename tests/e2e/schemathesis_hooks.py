"""What a JSON Schema cannot say of a valid request, said to schemathesis. Loaded by its command, not by the tests."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import schemathesis
from schemathesis.generation import GenerationMode

KEYS = ("Idempotency-Key", "X-Idempotency-Key")


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: Any) -> None:
    """One key is sent, and for one request only; a model that is named is the one that the body is for."""
    if case.meta is not None and case.meta.generation.mode != GenerationMode.POSITIVE:
        return
    sent = [name for name in KEYS if name in (case.headers or {})]
    for name in sent[1:]:
        del case.headers[name]
    for name in sent[:1]:
        case.headers[name] = f"{uuid4()}"
    if case.path == "/predict" and case.query:
        case.query.pop("model", None)
