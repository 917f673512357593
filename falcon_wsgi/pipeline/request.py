"""What flows through the pipeline: the context of a request, the request itself, and its outcome."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from falcon_wsgi.models.forms import Input
from falcon_wsgi.models.prediction import Prediction
from falcon_wsgi.models.served import ServedModel
from falcon_wsgi.pipeline.encoding import delimited
from falcon_wsgi.resilience.deadline import Deadline


@dataclass(slots=True)
class RequestContext:
    """Who asks, when, and until when. One for each HTTP request, on any route.

    Attributes:
        request_id: for correlation only; a client may repeat it.
        event_id: ours, or made by a trusted balancer and repeated on its retries; names the log row.
        entered_at: Unix time in seconds, of the balancer's first attempt where it says so.
        started: `time.perf_counter()` when this process took the request.
        client: scope of idempotency keys.
        from_trusted_balancer: the event id came from a balancer that repeats it.
        timings: seconds by stage, for Server-Timing.
        headers: more response headers.
    """

    request_id: str
    event_id: str
    entered_at: float
    started: float
    deadline: Deadline
    client: str
    client_ip: str | None
    from_trusted_balancer: bool
    trace_id: str | None = None
    rule: str = "unmatched"
    status: int = 0
    timings: dict[str, float] = field(default_factory=dict)
    headers: list[tuple[str, str]] = field(default_factory=list)


@dataclass(slots=True)
class Outcome:
    """A complete answer: what is sent, and what the log keeps of it.

    `replayed` is true where the body is a stored answer to an earlier request with the same key.
    """

    status: int
    body: bytes
    predictions: Sequence[Prediction]
    cache_hits: Sequence[bool]
    inference_s: float | None = None
    replayed: bool = False

    @property
    def all_cached(self) -> bool:
        return bool(self.cache_hits) and all(self.cache_hits)


class Renderer(Protocol):
    """Bodies of one route."""

    def render(
        self, request: InferenceRequest, predictions: Sequence[Prediction], hits: Sequence[bool]
    ) -> bytes:
        """The response body."""

    def recall(self, body: bytes) -> tuple[list[Prediction], list[bool]]:
        """The predictions that a rendered body holds."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request asks for: predictions for these inputs, valid but as sent.

    `options` are the bytes of whatever else shapes the answer; they are part of the request's fingerprint.
    """

    inputs: Sequence[Input]
    options: bytes = b""


class Reader(Protocol):
    """Reads and checks the HTTP request of one route.

    `served` is the version that is to answer, set as soon as it is known; on some routes the body decides it.
    """

    served: ServedModel | None

    def read(self) -> Asked:
        """Raises a leaf of RequestError."""

    def idempotency_key(self) -> str | None:
        """Raises MalformedRequest for a key that breaks its syntax."""


class InferenceRequest:
    """A call of a model route. Nothing is read or checked before `read`, so that a refusal is logged too.

    Attributes:
        inputs: as sent.
        normalised: as the model sees them.
        canonical: the bytes of each normalised input.
        hashes: their SHA-256 in hexadecimal, for the keys of the cache and the request log.
    """

    __slots__ = (
        "_options",
        "_reader",
        "canonical",
        "context",
        "hashes",
        "idempotency_key",
        "inputs",
        "normalised",
        "renderer",
        "route",
    )

    def __init__(self, context: RequestContext, route: str, reader: Reader, renderer: Renderer) -> None:
        self.context = context
        self.route = route
        self.renderer = renderer
        self._reader = reader
        self._options = b""
        self.idempotency_key: str | None = None
        self.inputs: Sequence[Input] = ()
        self.normalised: list[Input] = []
        self.canonical: list[bytes] = []
        self.hashes: list[str] = []

    def read(self) -> None:
        """Raises a leaf of RequestError."""
        self.idempotency_key = self._reader.idempotency_key()
        asked = self._reader.read()
        self._options = asked.options
        form = self.served.form
        self.normalised = form.normalise_all(asked.inputs)
        self.canonical = list(map(form.canonical, self.normalised))
        self.hashes = [hashlib.sha256(canonical).hexdigest() for canonical in self.canonical]
        self.inputs = asked.inputs

    def note_idempotency(self, status: str | None, *, replayed: bool) -> None:
        """Say in the response headers whether the key was honoured, and how."""
        if replayed:
            self.context.headers.append(("Idempotency-Replayed", "true"))
        if status is not None:
            self.context.headers.append(("Idempotency-Status", status))

    @property
    def served(self) -> ServedModel:
        """To be asked for once the request is read."""
        served = self._reader.served
        assert served is not None, "the request is not read yet"
        return served

    @property
    def known_model(self) -> ServedModel | None:
        """The version, also of a request that could not be read, or None."""
        return self._reader.served

    @property
    def model_name(self) -> str:
        """For metrics; `unknown` where no model was found for the request."""
        served = self._reader.served
        return served.name if served is not None else "unknown"

    @property
    def fingerprint(self) -> bytes:
        """SHA-256 of what is asked: the model, the options and the inputs as sent, each with its length."""
        inputs = map(self.served.form.canonical, self.inputs)
        return hashlib.sha256(delimited(self.served.name.encode(), self._options, *inputs)).digest()

    # What `idempotency.claim` asks of a request.

    @property
    def client(self) -> str:
        return self.context.client

    @property
    def event_id(self) -> str:
        return self.context.event_id

    @property
    def from_trusted_balancer(self) -> bool:
        return self.context.from_trusted_balancer

    @property
    def deadline(self) -> Deadline:
        return self.context.deadline
