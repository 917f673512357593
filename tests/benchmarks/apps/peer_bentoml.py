"""BentoML with the sentiment model; needs BENCHMARK_STORE."""

# No `from __future__ import annotations`: BentoML reads the types of the method.

import os
from pathlib import Path
from typing import Any

import bentoml

from tests.benchmarks.models import load
from tests.benchmarks.systems import WORKERS


@bentoml.service(workers=WORKERS, traffic={"timeout": 60}, metrics={"enabled": False})
class Sentiment:
    def __init__(self) -> None:
        self.model = load(Path(os.environ["BENCHMARK_STORE"]), "sentiment")

    @bentoml.api(batchable=True, max_batch_size=64, max_latency_ms=60_000)
    def infer(self, texts: list[str]) -> list[dict[str, Any]]:
        return [
            {
                "prediction": self.model.labels[row.index(max(row))],
                "confidence": max(row),
                "probabilities": dict(zip(self.model.labels, row, strict=True)),
            }
            for row in self.model.probabilities(texts)
        ]
