"""Bodies of answers, as pydantic models. The routes write theirs as bytes; a test holds real answers against these."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictFloat, StrictInt, StrictStr

Probability = float
Output = StrictBool | StrictInt | StrictStr | StrictFloat


def left_open(schema: dict[str, Any]) -> None:
    """A client must bear fields that a later version adds."""
    schema.pop("additionalProperties", None)


class Answer(BaseModel):
    """Nothing is left out and nothing added: an answer that grew must be described here."""

    model_config = ConfigDict(extra="forbid", json_schema_extra=left_open)


class _Result(Answer):
    prediction: Output = Field(description="The label of a classifier, or the value of a regressor.")
    confidence: float | None = Field(
        ge=0, le=1, description="Probability of the prediction; null where the model gives none."
    )
    probabilities: dict[str, Probability] | None = Field(
        description="By label; null where the model gives none."
    )
    cache_hit: bool = Field(description="The prediction was known from an equal input.")


class _Origin(Answer):
    idempotency_hit: bool = Field(
        description="This is the stored answer to an earlier request with the same key."
    )
    worker_id: str = Field(description="The worker that made this answer.")
    processing_time_ms: float = Field(ge=0)
    model: str
    model_version: str
    request_id: str = Field(description="As in X-Request-ID, of the request that this answer was made for.")


class InferAnswer(_Origin, _Result):
    """One prediction for a text."""


class BatchResult(_Result):
    """One prediction of a batch."""


class InferBatchAnswer(_Origin):
    """One result for each text, in the order of the texts."""

    results: list[BatchResult] = Field(min_length=1, max_length=50)
    batch_size: int = Field(ge=1, le=50)
    cache_hits: int = Field(ge=0, le=50)


class PredictAnswer(_Origin):
    """One prediction for a row."""

    prediction: Output = Field(description="The label of a classifier, or the value of a regressor.")
    predicted_class: StrictBool | StrictInt | StrictStr | None = Field(description="null for a regressor.")
    confidence: float | None = Field(
        ge=0, le=1, description="Probability of the prediction; null where the model gives none."
    )
    prediction_probabilities: dict[str, Probability] | None = Field(
        description="By class; null where the model gives none."
    )
    features_used: int = Field(ge=1)
    cache_hit: bool = Field(description="The prediction was known from an equal row.")


class LivenessAnswer(Answer):
    """The process can answer."""

    status: Literal["healthy"]
    worker_id: str
    timestamp: str = Field(json_schema_extra={"format": "date-time"})
    uptime_seconds: float = Field(ge=0)


class ReadinessChecks(Answer):
    """Of these, only `model_loaded` decides readiness."""

    model_loaded: bool
    redis_available: bool
    database_available: bool


class ReadinessAnswer(Answer):
    """Whether the worker may be sent requests."""

    ready: bool
    worker_id: str
    checks: ReadinessChecks
    timestamp: str = Field(json_schema_extra={"format": "date-time"})


class TrialHealth(Answer):
    """A version on trial beside the served one."""

    version: str
    digest: str = Field(pattern="^[0-9a-f]{64}$")
    fraction: float = Field(ge=0, le=1, description="Share of the requests, or of the clients, that it gets.")


class ModelHealth(Answer):
    """A served model version."""

    version: str
    digest: str = Field(pattern="^[0-9a-f]{64}$")
    predictor: str = Field(description="How the predictions are computed.")
    loaded: bool
    canary: TrialHealth | None = Field(default=None, description="Answers a share of the clients.")
    shadow: TrialHealth | None = Field(default=None, description="Runs beside the served version.")


class HealthAnswer(Answer):
    """The state for people: one sentence, and the served models by name."""

    status: Literal["healthy", "unhealthy"]
    message: str
    models: dict[str, ModelHealth]


class IndexAnswer(Answer):
    """What this is and where its routes are."""

    status: Literal["ok"]
    service: Literal["falcon"]
    version: str
    endpoints: list[str]


class Violation(Answer):
    """One way in which a body breaks its schema."""

    pointer: str = Field(description="JSON pointer (RFC 6901) into the body.")
    message: str
    type: str


class Problem(Answer):
    """A problem document (RFC 9457)."""

    type: str = Field(pattern="^urn:falcon:problem:[a-z0-9_]+$", description="Stable name of the problem.")
    title: str
    status: int = Field(ge=400, le=599)
    detail: str
    instance: str = Field(description="Path of the request.")
    request_id: str
    error: str = Field(description="Same text as `detail`, for Open Inference Protocol clients.")
    errors: list[Violation] = Field(
        default_factory=list, min_length=1, description="Only where a body breaks its schema."
    )
