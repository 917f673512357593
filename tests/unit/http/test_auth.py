"""Who gets in: the forms of a key, the routes that need one, and what a refusal says."""

from __future__ import annotations

import base64
from collections import Counter
from dataclasses import dataclass
from typing import Any

import orjson
import pytest
from flask import Flask, request

from falcon_wsgi.errors import RateLimited, Unauthenticated
from falcon_wsgi.http import problems
from falcon_wsgi.http.auth import KeyRequired, presented_key
from falcon_wsgi.http.context import ContextFactory

KEY = "the-key"


@dataclass
class Holder:
    client: str
    admin: bool


class Ring:
    """Knows one key, and one that has expired."""

    def identify(self, key: str) -> Holder:
        if key == KEY:
            return Holder("acme", True)
        if key == "old":
            raise Unauthenticated("the API key has expired", "expired")
        raise Unauthenticated("the API key is not valid", "unknown")


class Refusals:
    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def refused(self, reason: str) -> None:
        self.counts[reason] += 1


class Site:
    """An app whose routes tell whom they serve, behind the key."""

    def __init__(self) -> None:
        self.refusals = Refusals()
        self.app = Flask(__name__)
        for rule in ("/open", "/healthz", "/readyz"):
            self.app.add_url_rule(rule, rule, self.whom, methods=["GET"])
        self.app.add_url_rule("/limited", "limited", self.limited)
        keys = KeyRequired(Ring(), self.refusals)
        self.app.before_request(lambda: keys.check(request.environ))
        problems.register(self.app)
        contexts = ContextFactory((), 30)
        inner = self.app.wsgi_app

        def with_context(environ: dict[str, Any], start_response: Any) -> Any:
            environ["falcon.context"] = contexts.build(environ)
            return inner(environ, start_response)

        self.app.wsgi_app = with_context  # type: ignore[method-assign]

    def whom(self) -> dict[str, Any]:
        context = request.environ["falcon.context"]
        return {"client": context.client, "admin": context.admin}

    def limited(self) -> str:
        raise RateLimited("too many requests from this client", 2.2)

    def get(self, path: str = "/open", method: str = "GET", **headers: str) -> Any:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.app.test_client().open(path, method=method, headers=named)


@pytest.fixture
def site() -> Site:
    return Site()


def basic(text: str | bytes) -> str:
    raw = text if isinstance(text, bytes) else text.encode()
    return "Basic " + base64.b64encode(raw).decode()


FORMS = {
    "bearer": {"Authorization": f"Bearer {KEY}"},
    "bearer in another case": {"Authorization": f"bEARER   {KEY} "},
    "header": {"X-API-Key": KEY},
    "basic": {"Authorization": basic(f"anyone:{KEY}")},
    "basic without a user": {"Authorization": basic(f":{KEY}")},
    "header before what a browser adds": {"X-API-Key": KEY, "Authorization": basic("me:other")},
    "empty header": {"X-API-Key": "", "Authorization": f"Bearer {KEY}"},
}


@pytest.mark.parametrize("headers", FORMS.values(), ids=FORMS)
def test_a_key_is_taken_in_each_form(site: Site, headers: dict[str, str]) -> None:
    answer = site.get(**headers)
    assert (answer.status_code, answer.json) == (200, {"client": "acme", "admin": True})
    assert not site.refusals.counts


REFUSED: dict[str, tuple[dict[str, str], str]] = {
    "nothing": ({}, "missing"),
    "another scheme": ({"Authorization": 'Digest username="x"'}, "missing"),
    "no key": ({"Authorization": "Bearer "}, "unknown"),
    "wrong key": ({"Authorization": "Bearer other"}, "unknown"),
    "wrong header": ({"X-API-Key": "other"}, "unknown"),
    "wrong password": ({"Authorization": basic(f"{KEY}:other")}, "unknown"),
    "no password": ({"Authorization": basic(KEY)}, "unknown"),
    "no base64": ({"Authorization": "Basic !"}, "malformed"),
    "no UTF-8": ({"Authorization": basic(b"a:\xff")}, "malformed"),
    "expired": ({"X-API-Key": "old"}, "expired"),
    "a wrong key in the header that counts": (
        {"X-API-Key": "other", "Authorization": f"Bearer {KEY}"},
        "unknown",
    ),
}


@pytest.mark.parametrize(("headers", "reason"), REFUSED.values(), ids=REFUSED)
def test_anything_else_is_401_with_both_challenges(site: Site, headers: dict[str, str], reason: str) -> None:
    answer = site.get(**headers)
    assert (answer.status_code, answer.content_type) == (401, "application/problem+json")
    assert orjson.loads(answer.data)["type"] == "urn:falcon:problem:unauthenticated"
    bearer, for_browsers = answer.headers.getlist("WWW-Authenticate")
    assert bearer.startswith('Bearer realm="falcon"')
    assert ('error="invalid_token"' in bearer) == (reason != "missing")
    assert for_browsers == 'Basic realm="falcon", charset="UTF-8"'
    assert site.refusals.counts == {reason: 1}


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/healthz?verbose=1"])
def test_liveness_and_readiness_need_no_key(site: Site, path: str) -> None:
    answer = site.get(path)
    assert (answer.status_code, answer.json) == (200, {"client": "anonymous", "admin": False})


@pytest.mark.parametrize("path", ["/healthz/", "//healthz", "/healthz%3f", "/readyz/x", "/HEALTHZ"])
def test_what_only_looks_like_them_does(site: Site, path: str) -> None:
    assert site.get(path).status_code == 401


def test_a_stranger_does_not_learn_which_routes_there_are(site: Site) -> None:
    unknown, wrong_method = site.get("/nowhere"), site.get(method="DELETE")
    assert (unknown.status_code, wrong_method.status_code) == (401, 401)
    assert "Allow" not in wrong_method.headers
    assert site.get("/nowhere", X_API_Key=KEY).status_code == 404
    assert site.get(method="DELETE", X_API_Key=KEY).status_code == 405


def test_a_limited_client_is_told_when_to_come_back(site: Site) -> None:
    answer = site.get("/limited", X_API_Key=KEY)
    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "3")
    assert "WWW-Authenticate" not in answer.headers


def test_a_header_sent_twice_is_no_key() -> None:
    """Gunicorn joins equal fields with a comma."""
    assert presented_key({"HTTP_X_API_KEY": f"{KEY},{KEY}"}) == f"{KEY},{KEY}"
