"""Flask that answers a constant: what the framework and the server cost by themselves. Run by Gunicorn."""

from __future__ import annotations

from flask import Flask, Response

ANSWER = b'{"message":"hello"}'

app = Flask(__name__, static_folder=None)


@app.route("/infer", methods=["POST"])
def hello() -> Response:
    return Response(ANSWER, content_type="application/json")


@app.get("/ready")
def ready() -> str:
    return "ready"
