"""The pages: who gets which, what a browser may keep, and what a page may load."""

from __future__ import annotations

import re
from types import SimpleNamespace

import pytest
from flask import Flask
from flask.testing import FlaskClient

from falcon_wsgi.http import pages
from falcon_wsgi.http.assets import OWN_FOLDER, Assets
from falcon_wsgi.http.context import ContextFactory
from falcon_wsgi.http.problems import register

CHROMIUM = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"


@pytest.fixture(scope="module")
def client() -> FlaskClient:
    services = SimpleNamespace(
        models=(), keys=None, settings=SimpleNamespace(idempotency_enabled=True, rate_limit_per_second=0)
    )
    app = Flask(__name__, static_folder=None)
    app.register_blueprint(pages.blueprint(services))  # type: ignore[arg-type]
    register(app)
    contexts, inner = ContextFactory((), 30), app.wsgi_app

    def with_context(environ, start_response):
        environ["falcon.context"] = contexts.build(environ)
        return inner(environ, start_response)

    app.wsgi_app = with_context  # type: ignore[method-assign]
    return app.test_client()


def addresses(html: str) -> list[str]:
    return re.findall(r'(?:src|href)="([^"]+)"', html)


@pytest.mark.parametrize("accept", [CHROMIUM, "text/html", "text/html;q=0.9, application/json;q=0.1"])
def test_a_browser_gets_the_demo_page(client: FlaskClient, accept: str) -> None:
    answer = client.get("/", headers={"Accept": accept})
    assert answer.content_type == "text/html; charset=utf-8"
    assert "<title>Falcon</title>" in answer.text


@pytest.mark.parametrize(
    "accept", [None, "*/*", "application/json", "text/plain", "text/*;q=0.1, */*", "nonsense", ",;q=x", ""]
)
def test_any_other_client_gets_json(client: FlaskClient, accept: str | None) -> None:
    answer = client.get("/", headers={} if accept is None else {"Accept": accept})
    assert answer.content_type == "application/json"
    assert answer.json is not None
    assert answer.json["endpoints"] == ["/docs", "/openapi.json"]


def test_a_cache_between_keeps_the_two_apart(client: FlaskClient) -> None:
    for accept in (CHROMIUM, "*/*"):
        assert client.get("/", headers={"Accept": accept}).headers["Vary"] == "Accept"


@pytest.mark.parametrize("path", ["/", "/docs", "/openapi.json"])
def test_what_a_client_has_is_not_sent_again(client: FlaskClient, path: str) -> None:
    first = client.get(path, headers={"Accept": CHROMIUM})
    again = client.get(path, headers={"Accept": CHROMIUM, "If-None-Match": first.headers["ETag"]})
    other = client.get(path, headers={"Accept": CHROMIUM, "If-None-Match": '"other"'})
    assert (first.status_code, again.status_code, other.status_code) == (200, 304, 200)
    assert again.data == b""
    assert again.headers["ETag"] == first.headers["ETag"]
    assert first.headers["Cache-Control"] == "no-cache"


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_a_page_may_load_nothing_from_elsewhere_and_run_nothing_inline(
    client: FlaskClient, path: str
) -> None:
    answer = client.get(path, headers={"Accept": CHROMIUM})
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert all(address.startswith("/") for address in addresses(answer.text))
    assert not re.search(r"<script(?![^>]*src=)|<style|\son\w+=|\sstyle=", answer.text)


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_every_file_of_a_page_is_there_and_kept_for_ever(client: FlaskClient, path: str) -> None:
    files = [a for a in addresses(client.get(path, headers={"Accept": CHROMIUM}).text) if "/assets/" in a]
    assert len(files) >= 3
    for address in files:
        with client.get(address) as answer:
            assert answer.status_code == 200
            assert "immutable" in answer.headers["Cache-Control"]
            assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_modules_import_only_files_that_there_are(client: FlaskClient) -> None:
    scripts = sorted(OWN_FOLDER.glob("*.js"))
    imported = {name for script in scripts for name in re.findall(r'from "\./([^"]+)"', script.read_text())}
    assert imported
    assert imported <= {script.name for script in scripts}


def test_an_address_of_another_release_is_answered_but_not_kept(client: FlaskClient) -> None:
    with client.get("/assets/0123456789abcdef/demo.js") as answer:
        assert answer.status_code == 200
        assert answer.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    "name", ["demo.html", "nothing.js", "..%2Fpages.py", "%2Fetc%2Fpasswd", "swagger-ui.js"]
)
def test_only_listed_files_are_served(client: FlaskClient, name: str) -> None:
    assert client.get(f"/assets/{Assets().digest}/{name}").status_code == 404
