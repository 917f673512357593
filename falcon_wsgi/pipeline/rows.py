"""What the request log keeps of a request: rows of `inference_logs` as JSON (DESIGN: one for each prediction)."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import Any

import orjson

from falcon_wsgi.errors import FalconError
from falcon_wsgi.models.prediction import label_text
from falcon_wsgi.pipeline.request import InferenceRequest, Outcome

_SCALE = 1000.0


class RowEncoder:
    """Encodes rows as the journal keeps them: JSON objects keyed by column, joined by commas, nulls left out."""

    def __init__(self, worker_id: str, *, keep_payloads: bool) -> None:
        self._worker_id = worker_id
        self._keep_payloads = keep_payloads

    def answer(self, request: InferenceRequest, outcome: Outcome, seconds: float) -> tuple[bytes, int]:
        """The rows of an answered request and their number."""
        shared = self._shared(request, outcome.status, seconds)
        shared["success"] = True
        shared["idempotency_hit"] = outcome.replayed
        if outcome.inference_s is not None:
            shared["inference_time_ms"] = round(outcome.inference_s * _SCALE, 3)
        form = request.served.form
        rows = []
        for i, (prediction, hit) in enumerate(zip(outcome.predictions, outcome.cache_hits, strict=True)):
            row = {
                **shared,
                "batch_index": i,
                "text_hash": hashlib.sha256(request.canonical[i]).hexdigest(),
                "prediction": label_text(prediction.output),
                "confidence": prediction.confidence,
                "probabilities": prediction.probabilities,
                "cache_hit": hit,
            }
            if (length := form.length(request.inputs[i])) is not None:
                row["text_length"] = length
            if self._keep_payloads:
                row["payload"] = _storable_payload(form.payload(request.inputs[i]))
            rows.append(orjson.dumps(row))
        return b",".join(rows), len(rows)

    def failure(self, request: InferenceRequest, error: BaseException, status: int, seconds: float) -> bytes:
        """The one row of a request that was refused or failed, however many inputs it had."""
        row = self._shared(request, status, seconds)
        known = isinstance(error, FalconError)
        row |= {
            "batch_index": 0,
            "success": False,
            "cache_hit": False,
            "idempotency_hit": False,
            "error_type": error.code if known else type(error).__name__,  # type: ignore[attr-defined]
            "error_message": storable(str(error))[:500] if known else "unexpected error",
        }
        if len(request.canonical) == 1:
            row["text_hash"] = hashlib.sha256(request.canonical[0]).hexdigest()
            if (length := request.served.form.length(request.inputs[0])) is not None:
                row["text_length"] = length
        return orjson.dumps(row)

    def _shared(self, request: InferenceRequest, status: int, seconds: float) -> dict[str, Any]:
        context = request.context
        row = {
            "event_id": context.event_id,
            "request_id": context.request_id,
            "created_at": datetime.fromtimestamp(context.entered_at, UTC),
            "worker_id": self._worker_id,
            "status": status,
            "processing_time_ms": round(seconds * _SCALE, 3),
        }
        if (served := request.known_model) is not None:
            row["model"], row["model_version"] = served.name, served.version
        if context.client_ip is not None:
            row["client_ip"] = context.client_ip
        if request.idempotency_key is not None:
            row["idempotency_key"] = hashlib.sha256(request.idempotency_key.encode()).hexdigest()
        return row


def _storable_payload(payload: dict[str, Any]) -> dict[str, Any]:
    return {name: storable(value) if isinstance(value, str) else value for name, value in payload.items()}


def storable(text: str) -> str:
    """The text with U+0000, which Postgres has no place for, replaced by U+FFFD."""
    return text.replace("\x00", "\ufffd") if "\x00" in text else text
