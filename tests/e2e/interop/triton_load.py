"""Loads a model with Triton's client: `python triton_load.py PORT KEY MODEL`. Prints the error, if there is one."""

from __future__ import annotations

import sys

from tritonclient.http import InferenceServerClient
from tritonclient.utils import InferenceServerException

if __name__ == "__main__":
    port, key, model = sys.argv[1:]
    with InferenceServerClient(f"127.0.0.1:{port}") as client:
        try:
            client.load_model(model, headers={"X-API-Key": key})
        except InferenceServerException as error:
            print(error)
