"""Every error that Falcon raises, as one tree. Nothing here knows of HTTP: `http.problems` maps it.

Messages are written for the person who caused the error and are sent to them, so no leaf carries a secret,
a path of the server or a traceback.
"""

from __future__ import annotations

from typing import ClassVar


class FalconError(Exception):
    """Root of the tree. `code` is the stable name used in metrics, log rows and problem types."""

    code: ClassVar[str] = "internal_error"


class ConfigurationError(FalconError):
    """A setting, file or port that keeps the instance from starting. The message is one line."""

    code = "configuration_error"


class ReloadFailed(FalconError):
    """A running instance did not take over what the store holds. The message is one line."""

    code = "reload_failed"


class RequestError(FalconError):
    """The caller sent something that cannot be served as it is."""

    code = "bad_request"


class MalformedRequest(RequestError):
    """Not JSON, or a header that breaks its own syntax."""

    code = "malformed_request"


class UnsupportedMediaType(RequestError):
    """The body is not declared as JSON."""

    code = "unsupported_media_type"


class PayloadTooLarge(RequestError):
    """The body is over the size limit."""

    code = "payload_too_large"


class SlowRequest(RequestError):
    """The body did not arrive in time."""

    code = "request_timeout"


class ValidationFailed(RequestError):
    """Well-formed JSON that does not fit the schema.

    `issues` holds one entry for each violation: a JSON pointer (RFC 6901), a message and a type.
    """

    code = "validation_failed"

    def __init__(self, message: str, issues: list[dict[str, str]] | None = None) -> None:
        super().__init__(message)
        self.issues = issues or []


class Unauthenticated(FalconError):
    """No API key that is valid came with the request.

    `reason` is "missing", "malformed", "unknown" (also revoked, or a wrong secret) or "expired".
    """

    code = "unauthenticated"

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class Forbidden(FalconError):
    """The client is known, or nobody is asked who they are, and this is not theirs to do."""

    code = "forbidden"


class ModelControlRefused(RequestError):
    """A client asked for a model to be loaded or unloaded, and the instance does not do that."""

    code = "model_control_refused"


class UnknownModel(RequestError):
    """No such model or version is served."""

    code = "unknown_model"


class IdempotencyError(FalconError):
    """The idempotency key prevents this request from running."""

    code = "idempotency_error"


class IdempotencyKeyReused(IdempotencyError):
    """The key was first used with a different request."""

    code = "idempotency_key_reused"


class IdempotencyInProgress(IdempotencyError):
    """Another request holds the key right now; retry after `retry_after_s` seconds."""

    code = "idempotency_in_progress"

    def __init__(self, message: str, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class IdempotencyUnavailable(IdempotencyError):
    """Keys cannot be honoured at present and the instance is set to refuse rather than to risk a repeat."""

    code = "idempotency_unavailable"


class Overloaded(FalconError):
    """The admission limit is reached; retry after `retry_after_s` seconds."""

    code = "overloaded"

    def __init__(self, message: str, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class RateLimited(FalconError):
    """The client asked more often than it may; retry after `retry_after_s` seconds."""

    code = "rate_limited"

    def __init__(self, message: str, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class DeadlineExceeded(FalconError):
    """The time allowed for this request, or for its prediction, has passed."""

    code = "deadline_exceeded"


class NotReady(FalconError):
    """The instance cannot serve now: it is draining, or a model is not loaded."""

    code = "not_ready"


class ModelError(FalconError):
    """A model cannot be used. Each leaf says why; the message names the model and the file."""

    code = "model_error"


class ModelNotFound(ModelError):
    """The store has no such model, version or file."""

    code = "model_not_found"


class ManifestInvalid(ModelError):
    """The manifest is missing, is not JSON, or breaks its schema."""

    code = "manifest_invalid"


class DigestMismatch(ModelError):
    """A file's SHA-256 differs from the manifest's."""

    code = "digest_mismatch"


class UntrustedModel(ModelError):
    """The file holds a type outside the allow-list, or is a pickle."""

    code = "untrusted_model"


class GoldenMismatch(ModelError):
    """The loaded model does not reproduce its recorded example."""

    code = "golden_mismatch"


class ModelVersionExists(ModelError):
    """The store has another content under that version; a version, once written, is never changed."""

    code = "model_version_exists"


class ModelInUse(ModelError):
    """The version is served and cannot be removed."""

    code = "model_in_use"


class SignatureChanged(ModelError):
    """The version would refuse inputs that the served one accepts, and nobody has said that this is meant."""

    code = "signature_changed"


class ModelCrashed(ModelError):
    """Loading the version ended the interpreter, or did not end."""

    code = "model_crashed"


class TrialRefused(ModelError):
    """The version cannot stand beside the served one: it takes other inputs."""

    code = "trial_refused"


class GateRefused(ModelError):
    """The version does not agree enough with the logged answers, or there are none to compare it with."""

    code = "gate_refused"


class CandidateInvalid(ModelError):
    """What was given to be added is no model that can be served; the message names the file or the field."""

    code = "candidate_invalid"


class TrainingDataInvalid(ModelError):
    """The training file cannot be used; the message names the line."""

    code = "training_data_invalid"


class PredictionFailed(ModelError):
    """The model raised on an input that its signature allows."""

    code = "prediction_failed"


class ScoringError(FalconError):
    """Bulk scoring cannot start or go on. The message is one line."""

    code = "scoring_error"


class InputUnreadable(ScoringError):
    """The file to score is not there, breaks off, or is not of its format; no single row is to blame."""

    code = "input_unreadable"


class OutputRefused(ScoringError):
    """The output cannot be written, or not as asked."""

    code = "output_refused"


class RunChanged(ScoringError):
    """What an interrupted run left does not belong to this input, model and options."""

    code = "run_changed"


class TooManyRejects(ScoringError):
    """More rows were rejected than the user allows."""

    code = "too_many_rejects"


class ScoringInterrupted(ScoringError):
    """A worker process died, or the user stopped the run; what is committed stays, and the run can go on."""

    code = "scoring_interrupted"


class DependencyError(FalconError):
    """Redis or Postgres did not do what was asked of it."""

    code = "dependency_error"


class DependencyUnavailable(DependencyError):
    """The dependency is away: its circuit is open, or an attempt failed and no retry was left.

    `dependency` names it ("redis", "postgres"); the driver's error is the cause.
    """

    code = "dependency_unavailable"

    def __init__(self, dependency: str, reason: str) -> None:
        super().__init__(f"{dependency} is unavailable: {reason}")
        self.dependency = dependency
        self.reason = reason


class DependencyRejected(DependencyError):
    """The dependency is up and refused the operation, for instance for its data; a retry would not help."""

    code = "dependency_rejected"
