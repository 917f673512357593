"""LitServe with the sentiment model: `python -m tests.benchmarks.apps.peer_litserve PORT`; needs BENCHMARK_STORE."""

# No `from __future__ import annotations`: LitServe reads the types of `decode_request`.

import os
import sys
from pathlib import Path
from typing import Any

import litserve

from tests.benchmarks.models import load
from tests.benchmarks.peers import BATCH, BATCH_WAIT_S
from tests.benchmarks.systems import WORKERS


class One(litserve.LitAPI):
    """One text in each request; several requests are predicted together."""

    def setup(self, device: str) -> None:
        self.model = load(Path(os.environ["BENCHMARK_STORE"]), "sentiment")

    def decode_request(self, request: dict[str, Any], **kwargs: Any) -> str:
        return str(request["text"])

    def predict(self, texts: list[str], **kwargs: Any) -> list[dict[str, Any]]:
        return [self._fields(row) for row in self.model.probabilities(texts)]

    def encode_response(self, output: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        return output

    def _fields(self, row: list[float]) -> dict[str, Any]:
        confidence = max(row)
        return {
            "prediction": self.model.labels[row.index(confidence)],
            "confidence": confidence,
            "probabilities": dict(zip(self.model.labels, row, strict=True)),
        }


class Many(One):
    """Many texts in each request."""

    def decode_request(self, request: dict[str, Any], **kwargs: Any) -> list[str]:  # type: ignore[override]
        return list(request["texts"])

    def predict(self, texts: list[str], **kwargs: Any) -> dict[str, Any]:  # type: ignore[override]
        return {"results": super().predict(texts)}


if __name__ == "__main__":
    apis = [
        One(max_batch_size=BATCH, batch_timeout=BATCH_WAIT_S, api_path="/infer"),
        Many(api_path="/infer/batch"),
    ]
    server = litserve.LitServer(apis, accelerator="cpu", workers_per_device=WORKERS)
    server.run(
        host="127.0.0.1",
        port=int(sys.argv[1]),
        num_api_servers=WORKERS,
        generate_client_file=False,
        log_level="warning",
        access_log=False,
    )
