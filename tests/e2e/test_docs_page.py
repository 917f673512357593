"""The pages in a real browser: nothing from elsewhere, no complaint, and what their buttons do."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

from falcon_wsgi.backends.api_keys.file import KeyFile
from falcon_wsgi.backends.api_keys.record import issue
from falcon_wsgi.launch.embedded import EmbeddedRedis
from tests import programs
from tests.conftest import FreshDatabase
from tests.e2e.browser import ARGUMENTS, Watched, watched
from tests.e2e.instance import Instance, running, wait_until

Open = Callable[..., Watched]

PATIENCE_MS = 60_000
expect.set_options(timeout=PATIENCE_MS)
EXAMPLES = [
    ("Predictions", "infer", "sentiment"),
    ("Predictions", "predict", "iris"),
    ("Predictions", "predict", "performance"),
    ("Open_Inference_Protocol", "infer_iris", "iris.rows"),
]


@pytest.fixture(scope="module")
def browser(request: pytest.FixtureRequest) -> Iterator[Browser]:
    path = programs.require("chromium", "chromium", request.node.nodeid)
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield started
        started.close()


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Open]:
    opened: list[Watched] = []

    def open_(url: str, **settings: object) -> Watched:
        opened.append(made := watched(browser, **settings))  # type: ignore[arg-type]
        made.page.goto(url)
        return made

    yield open_
    for made in opened:
        made.page.context.close()


@pytest.fixture(scope="module")
def instance(
    module_folder: Path, model_store: Path, module_redis: EmbeddedRedis, module_database: FreshDatabase
) -> Iterator[Instance]:
    settings = {
        "redis_url": module_redis.url,
        "database_url": module_database.url,
        "circuit_breaker_timeout_seconds": 1,
    }
    with running(Instance(module_folder, model_store, **settings)) as started:
        wait_until(lambda: all(started.get("/readyz").json["checks"].values()), what="Redis and Postgres")
        yield started


def url(instance: Instance, path: str = "/") -> str:
    return f"http://127.0.0.1:{instance.port}{path}"


def assert_kept_to_itself(seen: Watched, instance: Instance) -> None:
    assert seen.origins == {f"http://127.0.0.1:{instance.port}"}
    assert seen.complaints == []


def operation(page: Page, tag: str, name: str) -> Locator:
    """The operation's block, opened."""
    block = page.locator(f"#operations-{tag}-{name}")
    block.locator(".opblock-summary-control").click()
    return block


def execute(block: Locator) -> str:
    """The status that the page shows for its request."""
    block.locator("button.execute").click()
    shown = block.locator(".live-responses-table tbody .response-col_status").first
    expect(shown).to_have_text(re.compile(r"^\d{3}"))
    return shown.inner_text()[:3]


def authorize(page: Page, key: str) -> None:
    """Enter the key for X-API-Key, in the place of the one before."""
    page.locator(".btn.authorize").click()
    entry = page.locator(".auth-container", has_text="X-API-Key")
    if (logout := entry.get_by_role("button", name="Remove authorization")).count():
        logout.click()
    entry.locator("input").fill(key)
    entry.get_by_role("button", name="Apply credentials").click()
    page.locator(".close-modal").click()


def test_the_docs_load_without_a_complaint_or_a_request_to_elsewhere(
    open_page: Open, instance: Instance
) -> None:
    seen = open_page(url(instance, "/docs"))
    described = sum(len(methods) for methods in instance.get("/openapi.json").json["paths"].values())
    expect(seen.page.locator(".opblock")).to_have_count(described)
    expect(seen.page.locator(".opblock-tag")).to_have_count(4)
    assert_kept_to_itself(seen, instance)


def test_an_example_of_each_model_can_be_tried(open_page: Open, instance: Instance) -> None:
    seen = open_page(url(instance, "/docs"))
    for tag, name, example in EXAMPLES:
        block = operation(seen.page, tag, name)
        choice = block.locator(".opblock-section-request-body .examples-select-element")
        if choice.count():
            choice.select_option(example)
        assert execute(block) == "200", (name, example)
        block.locator(".opblock-summary-control").click()
    assert_kept_to_itself(seen, instance)


def test_a_key_that_is_entered_under_authorize_is_sent(
    open_page: Open, tmp_path: Path, model_store: Path
) -> None:
    key, record = issue("browser", datetime.now(UTC))
    KeyFile(tmp_path / "keys.json").change(lambda records: [*records, record])
    with running(Instance(tmp_path, model_store, api_keys_file=tmp_path / "keys.json")) as keyed:
        # What a person types when the browser asks; it is then sent with each request of the page.
        credentials = {"username": "anyone", "password": key, "send": "unauthorized"}
        seen = open_page(url(keyed, "/docs"), http_credentials=credentials)
        authorize(seen.page, "falcon_0000_wrong")
        assert execute(operation(seen.page, "Predictions", "infer")) == "401"
        authorize(seen.page, key)
        assert execute(operation(seen.page, "Predictions", "predict")) == "200"
        seen.page.goto(url(keyed))
        seen.page.get_by_role("button", name="Predict").click()
        expect(seen.page.locator("#prediction")).to_be_visible(timeout=PATIENCE_MS)
        expect(seen.page.locator("#condition")).to_contain_text("serving")


def test_the_demo_page_shows_a_prediction_and_its_replay(open_page: Open, instance: Instance) -> None:
    seen = open_page(url(instance))
    page, answer = seen.page, seen.page.locator("#answer")
    expect(page.locator("#model option")).to_have_count(3)
    page.select_option("#model", "sentiment")
    page.fill("#field-text", "The food was great")
    page.get_by_role("button", name="Predict").click()
    expect(page.locator("#prediction")).to_have_text("positive")
    expect(answer).to_contain_text("new answer")
    expect(answer).to_contain_text("request log")
    expect(answer.locator(".bars .name")).to_have_text(["negative", "neutral", "positive"])
    page.get_by_role("button", name="Repeat with the same key").click()
    expect(answer).to_contain_text("replayed: stored answer of this key")
    assert_kept_to_itself(seen, instance)


def test_the_form_of_a_row_is_made_of_the_signature(open_page: Open, instance: Instance) -> None:
    page = open_page(url(instance)).page
    expect(page.locator("#model option")).to_have_count(3)
    page.select_option("#model", "performance")
    expect(page.locator("#fields input")).to_have_count(36)
    page.select_option("#model", "iris")
    expect(page.locator("#field-sepal_length")).to_have_value("5.1")
    page.get_by_role("button", name="Predict").click()
    expect(page.locator("#prediction")).to_have_text("0")


def test_a_refusal_is_shown_beside_the_field_that_caused_it(open_page: Open, instance: Instance) -> None:
    page = open_page(url(instance)).page
    expect(page.locator("#model option")).to_have_count(3)
    page.select_option("#model", "iris")
    page.fill("#field-sepal_length", "-4")
    page.get_by_role("button", name="Predict").click()
    expect(page.locator("#problem")).to_contain_text("422")
    expect(page.locator("#problem")).to_contain_text("/sepal_length")
    expect(page.locator("#field-sepal_length")).to_have_attribute("aria-invalid", "true")
    expect(page.locator("#field-sepal_length-fault")).to_contain_text("greater than or equal to 0")
    page.get_by_label("JSON").check()
    page.fill("#raw", "{")
    page.get_by_role("button", name="Predict").click()
    expect(page.locator("#problem")).to_contain_text("not valid JSON")


def test_the_breaker_is_seen_to_open_while_answers_keep_coming(
    open_page: Open, instance: Instance, module_redis: EmbeddedRedis
) -> None:
    seen = open_page(url(instance))
    page, redis = seen.page, seen.page.locator("#dependency-redis")
    expect(redis).to_contain_text("available · circuit closed")
    page.get_by_role("button", name="Keep sending").click()
    expect(page.locator("#stream-summary")).to_contain_text("answered")
    module_redis.suspend()
    try:
        expect(redis).to_contain_text("circuit open")
        expect(redis).to_have_attribute("data-state", "bad")
        expect(page.locator("#condition")).to_contain_text("without redis")
        page.get_by_role("button", name="Predict").click()
        expect(page.locator("#answer")).to_contain_text(
            "key not honoured: Redis is away", timeout=PATIENCE_MS
        )
        expect(page.locator("#prediction")).to_be_visible()
        expect(page.locator("#stream-summary")).to_contain_text("without Redis")
    finally:
        module_redis.resume()
    expect(redis).to_contain_text("available · circuit closed")
    expect(page.locator("#stream-summary")).to_contain_text(" 0 failed")
    assert_kept_to_itself(seen, instance)


@pytest.mark.parametrize("width", [360, 1400])
@pytest.mark.parametrize("path", ["/", "/docs"])
def test_a_page_fits_the_width_of_the_screen(
    open_page: Open, instance: Instance, path: str, width: int
) -> None:
    page = open_page(url(instance, path), width=width).page
    expect(page.locator("#field-text, .opblock").first).to_be_visible(timeout=PATIENCE_MS)
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_every_control_of_the_demo_page_has_a_name(open_page: Open, instance: Instance) -> None:
    page = open_page(url(instance)).page
    expect(page.locator("#field-text")).to_be_visible(timeout=PATIENCE_MS)
    nameless = page.evaluate(
        """[...document.querySelectorAll("input, select, textarea, button")].filter((control) =>
             !control.labels?.length && !control.textContent.trim()).map((control) => control.outerHTML)"""
    )
    assert nameless == []
    page.locator("#field-text").focus()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator("#prediction")).to_be_visible(timeout=PATIENCE_MS)


def test_figures_are_computed_as_prometheus_does(open_page: Open, instance: Instance) -> None:
    """Three answers up to 0.1 s, one up to 1 s; and an instance that was started anew between two readings."""
    page = open_page(url(instance)).page
    address = page.locator("script[type=module]").get_attribute("src") or ""
    figures = page.evaluate(
        """async (address) => {
            const { Scrape, Span } = await import(address);
            const reading = (low, all, at) => new Scrape(`# HELP x_total Of "x".
x_total{a="1",b="q}"} ${all}
x_bucket{le="0.1"} ${low}
x_bucket{le="1.0"} ${all}
x_bucket{le="+Inf"} ${all}
`, at);
            const span = new Span(reading(10, 10, 0), reading(13, 14, 2000));
            const restarted = new Span(reading(10, 10, 0), reading(3, 4, 2000));
            return {
                p50: span.quantile("x", 0.5), p99: span.quantile("x", 0.99), rate: span.rate("x_total"),
                label: span.last.total("x_total", { b: "q}" }),
                restarted: restarted.rate("x_total"), none: span.quantile("y", 0.5),
            };
        }""",
        address.replace("demo.js", "metrics.js"),
    )
    assert figures["p50"] == pytest.approx(0.1 * 2 / 3)
    assert figures["p99"] == pytest.approx(0.1 + 0.9 * 0.96)
    assert (figures["rate"], figures["restarted"], figures["label"]) == (2, 2, 14)
    assert figures["none"] != figures["none"], "not a number: nothing was counted"
