"""Runs a program's checks and prints what became of them: {name: "ok" or a traceback} as JSON, on the last line."""

from __future__ import annotations

import json
import traceback
import urllib.request
from collections.abc import Callable, Mapping
from typing import Any


class Native:
    """The instance's own routes, to compare with."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"

    def post(self, path: str, body: Any) -> Any:
        request = urllib.request.Request(
            self.url + path, json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    def infer(self, text: str) -> Any:
        return self.post("/infer", {"text": text})

    def predict(self, model: str, **row: Any) -> Any:
        return self.post(f"/predict?model={model}", row)


def report(named: Mapping[str, Any], *arguments: Any) -> None:
    """Call every function whose name begins with `check_`."""
    checks: dict[str, Callable[..., None]] = {
        name: value for name, value in named.items() if name.startswith("check_")
    }
    print(json.dumps({name: _outcome(check, arguments) for name, check in checks.items()}))


def _outcome(check: Callable[..., None], arguments: tuple[Any, ...]) -> str:
    try:
        check(*arguments)
    except Exception:  # noqa: BLE001 - the edge of a check; the test shows the traceback
        return traceback.format_exc()
    return "ok"
