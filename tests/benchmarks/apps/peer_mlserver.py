"""MLServer with the sentiment model, as a runtime of its own; needs BENCHMARK_STORE."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
from mlserver import MLModel
from mlserver.codecs import NumpyCodec, StringCodec
from mlserver.types import InferenceRequest, InferenceResponse

from tests.benchmarks.models import load


class Sentiment(MLModel):
    async def load(self) -> bool:
        self._model = load(Path(os.environ["BENCHMARK_STORE"]), "sentiment")
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        texts = StringCodec.decode_input(payload.inputs[0])
        rows = self._model.probabilities(texts)
        labels = [self._model.labels[row.index(max(row))] for row in rows]
        names = json.dumps(self._model.labels)
        return InferenceResponse(
            model_name=self.name,
            outputs=[
                StringCodec.encode_output("predict", labels),
                NumpyCodec.encode_output("predict_proba", np.array(rows)),
                StringCodec.encode_output("labels", [names] * len(rows)),
            ],
        )
