"""Rows of the request log, as the encoder makes them of requests and outcomes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import orjson
import pytest

from falcon_wsgi.errors import DeadlineExceeded
from falcon_wsgi.log_rows import COLUMNS, as_json
from falcon_wsgi.models.forms import Input, form_of
from falcon_wsgi.models.prediction import Prediction
from falcon_wsgi.models.signature import TextSignature
from falcon_wsgi.pipeline.request import Asked, InferenceRequest, Outcome, RequestContext
from falcon_wsgi.pipeline.rows import RowEncoder
from falcon_wsgi.resilience.deadline import Deadline

EVENT_ID = "0199b2a0-7a1c-7def-8123-456789abcdef"
ENTERED_AT = 1_763_737_000.123456
PROBABILITIES = {"negative": 1 / 3, 'so "so"\\\t': 0.1, "positive": 2 / 3}


class Reader:
    def __init__(self, inputs: Sequence[Input], key: str | None) -> None:
        self.served: Any = SimpleNamespace(name="senti\tment", version="1.0.0", form=form_of(TextSignature()))
        self._inputs = inputs
        self._key = key

    def read(self) -> Asked:
        return Asked(self._inputs)

    def idempotency_key(self) -> str | None:
        return self._key


def request(*inputs: str, key: str | None = None, client_ip: str | None = "2001:db8::1") -> InferenceRequest:
    context = RequestContext(
        request_id="r-1",
        event_id=EVENT_ID,
        entered_at=ENTERED_AT,
        started=0.0,
        deadline=Deadline(30.0),
        client="anonymous",
        client_ip=client_ip,
        from_trusted_balancer=False,
    )
    made = InferenceRequest(context, "/infer/batch", Reader(inputs, key), renderer=None)  # type: ignore[arg-type]
    made.read()
    return made


def decoded(rows: bytes) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = orjson.loads(b"[%b]" % as_json(rows))
    return found


def encoder(*, keep_payloads: bool = False) -> RowEncoder:
    return RowEncoder("worker-1", keep_payloads=keep_payloads)


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def test_an_answer_is_one_row_for_each_prediction_with_all_that_is_known() -> None:
    outcome = Outcome(
        200,
        b"",
        [Prediction("positive", 2 / 3, PROBABILITIES), Prediction(True), Prediction(-0.5)],
        [False, True, False],
        inference_s=0.0012345,
    )
    rows, count = encoder().answer(request("so  good", "b", "caf\u00e9", key="k"), outcome, 0.00421)
    first, second, third = decoded(rows)
    assert count == 3
    assert first == {
        "event_id": EVENT_ID,
        "created_at": "2025-11-21T14:56:40.123456+00",
        "request_id": "r-1",
        "worker_id": "worker-1",
        "model": "senti\tment",
        "model_version": "1.0.0",
        "status": 200,
        "processing_time_ms": 4.21,
        "client_ip": "2001:db8::1",
        "idempotency_key": sha256("k"),
        "success": True,
        "idempotency_hit": False,
        "inference_time_ms": 1.234,
        "error_type": None,
        "error_message": None,
        "batch_index": 0,
        "cache_hit": False,
        "text_hash": sha256("so good"),
        "text_length": 8,
        "prediction": "positive",
        "confidence": 2 / 3,
        "probabilities": PROBABILITIES,
        "payload": None,
    }
    own = (
        "batch_index",
        "cache_hit",
        "text_hash",
        "text_length",
        "prediction",
        "confidence",
        "probabilities",
    )
    assert [second[name] for name in own] == [1, True, sha256("b"), 1, "true", None, None]
    assert [third[name] for name in own] == [2, False, sha256("caf\u00e9"), 4, "-0.5", None, None]
    shared = set(COLUMNS) - set(own)
    assert {name: first[name] for name in shared} == {name: third[name] for name in shared}


def test_what_is_not_known_is_null() -> None:
    outcome = Outcome(200, b"", [Prediction("a")], [True], replayed=True)
    rows, _ = encoder().answer(request("a", client_ip=None), outcome, 0.001)
    (row,) = decoded(rows)
    assert row["idempotency_hit"] is True
    assert [row[name] for name in ("client_ip", "idempotency_key", "inference_time_ms")] == [None] * 3


def test_payloads_are_kept_only_where_asked_for_and_without_what_postgres_cannot_hold() -> None:
    outcome = Outcome(200, b"", [Prediction("a")], [True])
    rows, _ = encoder(keep_payloads=True).answer(request("tab\t, nul \x00, \\ and \n"), outcome, 0.001)
    assert decoded(rows)[0]["payload"] == {"text": "tab\t, nul \ufffd, \\ and \n"}
    rows, _ = encoder().answer(request("secret"), outcome, 0.001)
    assert b"secret" not in rows


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (DeadlineExceeded("30 s are\tover\x00"), DeadlineExceeded.code, "30 s are\tover\ufffd"),
        (ZeroDivisionError("what the model divided"), "ZeroDivisionError", "unexpected error"),
    ],
)
def test_a_failure_is_one_row_that_says_why(error: Exception, code: str, message: str) -> None:
    (row,) = decoded(encoder().failure(request("a text"), error, 504, 0.001))
    assert (row["success"], row["status"], row["batch_index"]) == (False, 504, 0)
    assert (row["error_type"], row["error_message"]) == (code, message)
    assert (row["text_hash"], row["text_length"]) == (sha256("a text"), 6)
    assert [row[name] for name in ("prediction", "confidence", "probabilities", "inference_time_ms")] == [
        None
    ] * 4


def test_a_failed_batch_is_one_row_of_no_single_text() -> None:
    (row,) = decoded(encoder().failure(request("a", "b"), DeadlineExceeded("late"), 504, 0.001))
    assert (row["text_hash"], row["text_length"]) == (None, None)


@pytest.mark.parametrize(
    "entered_at", [ENTERED_AT, 1_763_737_000.0, 0.0, 1_763_737_000.9999996, 4_102_444_799.999999]
)
def test_the_time_is_that_of_the_event_to_the_microsecond(entered_at: float) -> None:
    made = request("a")
    made.context.entered_at = entered_at
    (row,) = decoded(encoder().failure(made, ZeroDivisionError(), 500, 0.001))
    assert datetime.fromisoformat(row["created_at"]) == datetime.fromtimestamp(entered_at, UTC)
