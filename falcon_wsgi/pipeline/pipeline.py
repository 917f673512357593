"""The story of a request, top-down. A new stage goes into `run`, or into `answer` if replays skip it."""

from __future__ import annotations

from falcon_wsgi.pipeline.idempotency import Idempotency, StoredAnswer
from falcon_wsgi.pipeline.journal import Journal
from falcon_wsgi.pipeline.predictions import Lookup, Predictions
from falcon_wsgi.pipeline.rate_limit import RateLimit
from falcon_wsgi.pipeline.request import InferenceRequest, Outcome
from falcon_wsgi.pipeline.shadow import Shadow
from falcon_wsgi.resilience.admission import Admission


class Pipeline:
    """Every model route runs through here, and through nothing else."""

    def __init__(
        self,
        journal: Journal,
        admission: Admission,
        rate_limit: RateLimit,
        idempotency: Idempotency,
        predictions: Predictions,
        shadow: Shadow | None = None,
    ) -> None:
        self.journal = journal
        self.admission = admission
        self.rate_limit = rate_limit
        self.idempotency = idempotency
        self.predictions = predictions
        self.shadow = shadow or Shadow()

    def run(self, request: InferenceRequest) -> Outcome:
        """Answer the request.

        Raises:
            FalconError: a leaf that says why there is no answer; it has been logged.
        """
        with self.journal.entry(request) as entry, self.admission:
            self.rate_limit.admit(request.context)
            request.read()
            lookup = self.predictions.look_up(request)  # asked before the claim, so that both go out together
            with self.idempotency.claim(request) as claim:
                outcome = self.recall(request, claim.replay) if claim.replay else self.answer(request, lookup)
                claim.keep(outcome)
            request.note_idempotency(claim.status, replayed=outcome.replayed)
            entry.outcome = outcome
        self.shadow.offer(request, outcome)
        return outcome

    def answer(self, request: InferenceRequest, lookup: Lookup) -> Outcome:
        """A new answer: from the cache where it is known, from the model where it is not."""
        found = self.predictions.of(request, lookup)
        body = request.renderer.render(request, found.predictions, found.cache_hits)
        return Outcome(200, body, found.predictions, found.cache_hits, inference_s=found.inference_s)

    def recall(self, request: InferenceRequest, stored: StoredAnswer) -> Outcome:
        """The answer that this key was given before, unchanged."""
        predictions, hits = request.renderer.recall(stored.body)
        return Outcome(stored.status, stored.body, predictions, hits, replayed=True)
