"""The shortcut and the app answer a model route alike, whatever the outcome."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from flask import Flask, request

from falcon_wsgi import errors
from falcon_wsgi.http import inference, problems
from falcon_wsgi.http.answer import Answer
from falcon_wsgi.http.auth import KeyRequired
from falcon_wsgi.http.context import ContextFactory
from falcon_wsgi.http.edge import Edge
from falcon_wsgi.http.shortcut import Shortcut


class Silent:
    def http_request(self, method: str, rule: str, status: int, seconds: float) -> None:
        pass

    def write(self, request: Any, status: int, method: str, path: str, seconds: float) -> None:
        pass

    def refused(self, reason: str) -> None:
        pass


class Ring:
    def identify(self, key: str) -> Any:
        raise errors.Unauthenticated("the API key is not known", "unknown")


class Site:
    """One route, by the shortcut and by the app alone; and what each answered."""

    def __init__(self, *, locked: bool = False) -> None:
        self.outcome: Answer | BaseException = Answer(200, b'{"prediction":"positive"}')
        self.rules: list[str] = []
        handlers = {"/infer": self._handle}
        app = Flask(__name__)
        app.url_map.strict_slashes = True
        app.register_blueprint(inference.blueprint(handlers))
        problems.register(app)
        check = KeyRequired(Ring(), Silent()).check if locked else None
        if check is not None:
            app.before_request(lambda: check(request.environ))
        self.app = app
        self.ways = {
            "shortcut": self._edge(Shortcut(app.wsgi_app, handlers, check)),
            "app": self._edge(app.wsgi_app),
        }

    def _handle(self, environ: dict[str, Any]) -> Answer:
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        return self.outcome

    @staticmethod
    def _edge(inner: Any) -> Edge:
        return Edge(inner, ContextFactory((), 30), "worker-7", Silent(), Silent())  # type: ignore[arg-type]

    def ask(self, way: str, method: str = "POST", path: str = "/infer", **headers: str) -> Any:
        self.app.wsgi_app = self.ways[way]  # type: ignore[method-assign]
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        response = self.app.test_client().open(path, method=method, headers={"X-Request-ID": "r-1", **named})
        kept = sorted((name, value) for name, value in response.headers if name != "Server-Timing")
        return response.status, kept, response.data


OUTCOMES: dict[str, Answer | Exception] = {
    "an answer": Answer(200, b'{"prediction":"positive"}'),
    "a stored answer of another status": Answer(201, b"{}"),
    "an empty answer": Answer(200, b""),
    "a refusal with issues": errors.ValidationFailed(
        "no", [{"pointer": "/text", "message": "no", "type": "x"}]
    ),
    "a refusal with a wait": errors.Overloaded("full", 2.2),
    "a strange client": errors.Unauthenticated("an API key is required", "missing"),
    "a key of another": errors.Unauthenticated("the API key is not known", "unknown"),
    "a designed failure": errors.DeadlineExceeded("late"),
    "a failure of the model": errors.PredictionFailed("the model could not answer this input"),
    "what nobody foresaw": KeyError("secret"),
}


@pytest.mark.parametrize("outcome", OUTCOMES.values(), ids=OUTCOMES)
def test_both_ways_answer_alike(outcome: Answer | Exception) -> None:
    site = Site()
    site.outcome = outcome
    by_shortcut, by_app = site.ask("shortcut"), site.ask("app")
    assert by_shortcut == by_app
    assert ("Content-Length", str(len(by_shortcut[2]))) in by_shortcut[1]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/infer"),
        ("HEAD", "/infer"),
        ("OPTIONS", "/infer"),
        ("POST", "/infer/"),
        ("POST", "//infer"),
        ("POST", "/"),
    ],
)
def test_what_the_shortcut_does_not_know_is_the_apps(method: str, path: str) -> None:
    site = Site()
    assert site.ask("shortcut", method, path) == site.ask("app", method, path)


def test_a_key_is_asked_for_on_both_ways() -> None:
    site = Site(locked=True)
    for headers in ({}, {"X_API_Key": "guessed"}):
        by_shortcut = site.ask("shortcut", **headers)
        assert by_shortcut == site.ask("app", **headers)
        assert by_shortcut[0] == "401 Unauthorized"


def test_an_unforeseen_error_is_logged_once_and_not_told(caplog: Any) -> None:
    site = Site()
    site.outcome = ValueError("secret /etc/path")
    status, _, body = site.ask("shortcut")
    assert status == "500 Internal Server Error"
    assert b"secret" not in body
    assert orjson.loads(body)["type"] == "urn:falcon:problem:internal_error"
    assert [(r.message, r.exc_info is not None) for r in caplog.records] == [("request_crashed", True)]


class CutOff(BaseException):
    """As a greenlet is ended at the end of a drain."""


def test_the_end_of_a_greenlet_is_not_answered() -> None:
    site = Site()
    site.outcome = CutOff()
    with pytest.raises(CutOff):
        site.ask("shortcut")
