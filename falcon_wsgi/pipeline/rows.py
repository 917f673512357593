"""What the request log keeps of a request: rows of `inference_logs`, one for each prediction (DESIGN)."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from falcon_wsgi.errors import FalconError
from falcon_wsgi.log_rows import NULL, boolean, document, numbers, text
from falcon_wsgi.models.forms import Input
from falcon_wsgi.models.prediction import label_text
from falcon_wsgi.pipeline.request import InferenceRequest, Outcome

_SCALE = 1000.0
_LONGEST_MESSAGE = 500


class RowEncoder:
    """Encodes rows as the journal keeps them: lines of `log_rows.COLUMNS`, each with its line feed."""

    def __init__(self, worker_id: str, *, keep_payloads: bool) -> None:
        self._worker_id = text(worker_id)
        self._keep_payloads = keep_payloads

    def answer(self, request: InferenceRequest, outcome: Outcome, seconds: float) -> tuple[bytes, int]:
        """The rows of an answered request and their number."""
        inference_ms = NULL if outcome.inference_s is None else f"{outcome.inference_s * _SCALE:.3f}"
        shared = self._shared(request, outcome.status, seconds)
        shared += f"t\t{boolean(outcome.replayed)}\t{inference_ms}\t{NULL}\t{NULL}"
        # A batch of 50 texts is 50 rows, so what they share is encoded once, and the floats in one call.
        rows = zip(
            outcome.cache_hits,
            request.hashes,
            request.inputs,
            outcome.predictions,
            numbers([prediction.confidence for prediction in outcome.predictions]),
            strict=True,
        )
        length = request.served.form.length
        lines = [
            f"{shared}\t{i}\t{boolean(hit)}\t{digest}\t{_or_null(length(sent))}"
            f"\t{text(label_text(prediction.output))}\t{confidence}\t{document(prediction.probabilities)}"
            f"\t{self._payload(request, sent) if self._keep_payloads else NULL}\n"
            for i, (hit, digest, sent, prediction, confidence) in enumerate(rows)
        ]
        return "".join(lines).encode(), len(lines)

    def failure(self, request: InferenceRequest, error: BaseException, status: int, seconds: float) -> bytes:
        """The one row of a request that was refused or failed, however many inputs it had."""
        code, message = type(error).__name__, "unexpected error"
        if isinstance(error, FalconError):
            code, message = error.code, storable(str(error))[:_LONGEST_MESSAGE]
        digest: str = NULL
        length: str | int = NULL
        if len(request.hashes) == 1:
            digest = request.hashes[0]
            length = _or_null(request.served.form.length(request.inputs[0]))
        row = (
            f"{self._shared(request, status, seconds)}f\tf\t{NULL}\t{text(code)}\t{text(message)}"
            f"\t0\tf\t{digest}\t{length}\t{NULL}\t{NULL}\t{NULL}\t{NULL}\n"
        )
        return row.encode(errors="replace")

    def _shared(self, request: InferenceRequest, status: int, seconds: float) -> str:
        """The fields up to `idempotency_key`."""
        context, served, key = request.context, request.known_model, request.idempotency_key
        model = f"{NULL}\t{NULL}" if served is None else f"{text(served.name)}\t{text(served.version)}"
        return (
            f"{text(context.event_id)}\t{_timestamp(context.entered_at)}"
            f"\t{text(context.request_id)}\t{self._worker_id}\t{model}\t{status}\t{seconds * _SCALE:.3f}"
            f"\t{NULL if context.client_ip is None else text(context.client_ip)}"
            f"\t{NULL if key is None else _hash(key.encode())}\t"
        )

    def _payload(self, request: InferenceRequest, sent: Input) -> str:
        return document(_storable_payload(request.served.form.payload(sent)))


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _timestamp(unix_s: float) -> str:
    """To the microsecond; the same for every attempt at a request, as the row's key must be."""
    second, microsecond = divmod(round(unix_s * 1_000_000), 1_000_000)
    return f"{_to_the_second(second)}.{microsecond:06d}+00"


@lru_cache(4)
def _to_the_second(unix_s: int) -> str:
    return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _or_null(value: int | None) -> str | int:
    return NULL if value is None else value


def _storable_payload(payload: dict[str, Any]) -> dict[str, Any]:
    return {name: storable(value) if isinstance(value, str) else value for name, value in payload.items()}


def storable(text: str) -> str:
    """The text with U+0000, which Postgres has no place for, replaced by U+FFFD."""
    return text.replace("\x00", "\ufffd") if "\x00" in text else text
