"""The protocol's routes in an app, over the real pipeline with everything in memory."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import orjson
from flask import Flask

from falcon_wsgi.backends import memory
from falcon_wsgi.errors import NotReady
from falcon_wsgi.http import problems
from falcon_wsgi.http.context import ContextFactory
from falcon_wsgi.http.protocol import routes
from falcon_wsgi.log_rows import as_json
from falcon_wsgi.models.forms import Input
from falcon_wsgi.models.prediction import Prediction
from falcon_wsgi.models.served import ServedModel
from falcon_wsgi.models.trials import Trials
from falcon_wsgi.pipeline.cache import LocalTier, PredictionCache
from falcon_wsgi.pipeline.idempotency import Idempotency
from falcon_wsgi.pipeline.journal import Journal
from falcon_wsgi.pipeline.pipeline import Pipeline
from falcon_wsgi.pipeline.predictions import Predictions
from falcon_wsgi.pipeline.rate_limit import Unlimited
from falcon_wsgi.pipeline.rows import RowEncoder
from falcon_wsgi.resilience.admission import Admission
from falcon_wsgi.resilience.guard import Guard
from falcon_wsgi.resilience.retry import RetryPolicy
from tests.unit.http.protocol.models import CATALOGUE


class Direct:
    """A model without batches."""

    def __init__(self, model: ServedModel) -> None:
        self.model = model

    def predict(
        self, inputs: Sequence[Input], timeout_s: float, timings: dict[str, float]
    ) -> list[Prediction]:
        return self.model.predictor.predict(inputs)


class Rows:
    """Keeps what is written to the request log."""

    def __init__(self) -> None:
        self.written: list[dict[str, Any]] = []

    def append(self, rows: bytes, count: int) -> None:
        found = orjson.loads(b"[" + as_json(rows) + b"]")
        assert len(found) == count
        self.written += found


class Silent:
    def answered(self, request: Any, outcome: Any, seconds: float) -> None:
        pass

    def failed(self, request: Any, error: BaseException, seconds: float) -> None:
        pass


@dataclass
class Site:
    """Attributes named as those of `services.Services`, and what a test looks at."""

    store: Path
    rows: Rows = field(default_factory=Rows)
    ready: bool = True
    condition: str = "the instance is draining"
    keys: object | None = None
    admin: bool = False
    taken_over: list[str] = field(default_factory=list)
    refuses: Exception | None = None

    def __post_init__(self) -> None:
        self.models, self.trials = CATALOGUE, Trials()
        self.settings = SimpleNamespace(model_store=self.store)
        guard = Guard("memory", memory.TRANSIENT, policy=RetryPolicy(max_attempts=1))
        shared = memory.MemoryStore()
        self.pipeline = Pipeline(
            Journal(self.rows, RowEncoder("worker-1", keep_payloads=False), problems.status_of, Silent()),
            Admission(10),
            Unlimited(),
            Idempotency(shared, guard, ttl_s=60, lease_s=10),
            Predictions(
                {model.digest: Direct(model) for model in CATALOGUE},
                PredictionCache(LocalTier(1000), shared, guard, ttl_s=60),
                10,
            ),
        )
        self.app = Flask(__name__)
        self.app.url_map.strict_slashes = True
        self.app.register_blueprint(routes.blueprint(self))  # type: ignore[arg-type]
        problems.register(self.app)
        contexts, inner = ContextFactory((), 30), self.app.wsgi_app

        def outer(environ: dict[str, Any], start_response: Any) -> Any:
            environ["falcon.context"] = context = contexts.build(environ)
            context.admin = self.admin

            def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
                return start_response(status, headers + context.headers, exc_info)

            return inner(environ, start)

        self.app.wsgi_app = outer  # type: ignore[method-assign]
        self.client = self.app.test_client()
        self.started_at = time.monotonic()

    def count_request(self) -> None:
        pass

    def take_over(self, name: str, deadline: Any) -> None:
        if self.refuses is not None:
            raise self.refuses
        self.taken_over.append(name)

    def infer(self, model: str, body: Any, path: str = "", **headers: str) -> Any:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        url = f"/v2/models/{model}{path}/infer"
        raw = body if isinstance(body, bytes) else orjson.dumps(body)
        return self.client.post(url, data=raw, headers=named, content_type="application/json")


NO_MASTER = NotReady("there is no master")
