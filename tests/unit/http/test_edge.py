"""The outermost layer and the problem documents: every request is counted, logged and answered in one form."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from flask import Flask

from falcon_wsgi import errors
from falcon_wsgi.http import problems
from falcon_wsgi.http.context import ContextFactory
from falcon_wsgi.http.edge import Edge, server_timing
from falcon_wsgi.observability.logs import current_request


class Recorder:
    def __init__(self) -> None:
        self.requests: list[tuple[str, str, int]] = []
        self.written: list[tuple[int, str, str]] = []

    def http_request(self, method: str, rule: str, status: int, seconds: float) -> None:
        self.requests.append((method, rule, status))

    def write(self, request: Any, status: int, method: str, path: str, seconds: float) -> None:
        self.written.append((status, method, path))


class Site:
    """An app that raises what it is told to, behind an edge."""

    def __init__(self) -> None:
        self.recorder = Recorder()
        self.app = Flask(__name__)
        self.app.add_url_rule("/raise", "raise", self.fail, methods=["GET", "POST"])
        problems.register(self.app)
        self.error: BaseException | None = None
        self.seen: list[str | None] = []
        self.app.wsgi_app = Edge(  # type: ignore[method-assign]
            self.app.wsgi_app,
            ContextFactory((), 30),
            "worker-7",
            self.recorder,  # type: ignore[arg-type]
            self.recorder,
        )

    def fail(self) -> str:
        request = current_request.get()
        self.seen.append(request.request_id if request else None)
        if self.error is not None:
            raise self.error
        return "fine"

    def get(self, error: BaseException | None = None, path: str = "/raise", **how: Any) -> Any:
        self.error = error
        return self.app.test_client().open(path, **how)


@pytest.fixture
def site() -> Site:
    return Site()


STATUSES = {
    errors.FalconError: 500,
    errors.RequestError: 400,
    errors.MalformedRequest: 400,
    errors.UnsupportedMediaType: 415,
    errors.PayloadTooLarge: 413,
    errors.SlowRequest: 408,
    errors.ValidationFailed: 422,
    errors.UnknownModel: 404,
    errors.IdempotencyKeyReused: 422,
    errors.IdempotencyInProgress: 409,
    errors.IdempotencyUnavailable: 503,
    errors.Overloaded: 429,
    errors.DeadlineExceeded: 504,
    errors.NotReady: 503,
    errors.DependencyUnavailable: 503,
    errors.PredictionFailed: 500,
}
ARGUMENTS = {errors.IdempotencyInProgress: ("busy", 2.2), errors.DependencyUnavailable: ("redis", "away")}


@pytest.mark.parametrize(
    ("kind", "status"), STATUSES.items(), ids=lambda value: getattr(value, "__name__", None)
)
def test_each_error_has_its_status_and_one_form(site: Site, kind: type[Exception], status: int) -> None:
    answer = site.get(kind(*ARGUMENTS.get(kind, ("the reason",))))
    assert answer.status_code == status
    assert answer.content_type == "application/problem+json"
    body = orjson.loads(answer.data)
    assert set(body) == {"type", "title", "status", "detail", "instance", "request_id", "error"}
    assert body["status"] == status
    assert body["type"] == f"urn:falcon:problem:{kind.code}"  # type: ignore[attr-defined]
    assert body["request_id"] == answer.headers["X-Request-ID"]
    assert ("Retry-After" in answer.headers) == (status in (409, 429, 503))


def test_the_wait_is_rounded_up_to_whole_seconds(site: Site) -> None:
    assert site.get(errors.IdempotencyInProgress("busy", 2.2)).headers["Retry-After"] == "3"
    assert site.get(errors.Overloaded("full", 0.01)).headers["Retry-After"] == "1"


def test_issues_become_errors(site: Site) -> None:
    issue = {"pointer": "/text", "message": "no", "type": "blank"}
    assert orjson.loads(site.get(errors.ValidationFailed("no", [issue])).data)["errors"] == [issue]


@pytest.mark.parametrize("error", [ValueError("secret /etc/path"), KeyError("secret"), OSError(5, "secret")])
def test_an_unforeseen_error_says_nothing_of_itself(site: Site, error: Exception, caplog: Any) -> None:
    answer = site.get(error)
    assert answer.status_code == 500
    assert b"secret" not in answer.data
    assert type(error).__name__.encode() not in answer.data
    assert [(r.message, r.exc_info is not None) for r in caplog.records] == [("request_crashed", True)]


def test_a_designed_refusal_is_no_error_in_the_log(site: Site, caplog: Any) -> None:
    for error in (errors.NotReady("draining"), errors.DeadlineExceeded("late"), errors.Overloaded("full")):
        site.get(error)
    assert caplog.records == []


def test_reason_phrases_are_not_shouted(site: Site) -> None:
    assert site.get().status == "200 OK"
    assert site.get(path="/absent").status == "404 Not Found"
    assert site.get(method="PUT").status == "405 Method Not Allowed"
    assert site.get(errors.DeadlineExceeded("late")).status == "504 Gateway Timeout"


def test_every_request_is_counted_and_logged_once(site: Site) -> None:
    site.get()
    site.get(ValueError())
    site.get(path="/absent")
    site.get(method="BREW")
    assert [status for *_, status in site.recorder.requests] == [200, 500, 404, 405]
    assert [method for method, *_ in site.recorder.requests] == ["GET", "GET", "GET", "OTHER"]
    assert site.recorder.written == [
        (200, "GET", "/raise"),
        (500, "GET", "/raise"),
        (404, "GET", "/absent"),
        (405, "BREW", "/raise"),
    ]


class CutOff(BaseException):
    """As a greenlet is ended at the end of a drain."""


def test_a_request_that_is_cut_off_is_counted_as_failed_and_unbound(site: Site) -> None:
    with pytest.raises(CutOff):
        site.get(CutOff())
    assert [status for *_, status in site.recorder.requests] == [500]
    assert current_request.get() is None


def test_the_request_is_bound_while_it_runs_and_not_longer(site: Site) -> None:
    site.get(headers={"X-Request-ID": "mine"})
    assert site.seen == ["mine"]
    assert current_request.get() is None


def test_server_timing_lists_each_stage_in_milliseconds() -> None:
    assert server_timing({"predict": 0.0015, "log": 0.25}) == (
        "queue;dur=0.000, cache;dur=0.000, predict;dur=1.500, log;dur=250.000"
    )
