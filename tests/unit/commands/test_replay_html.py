"""The HTML report stands alone and is safe to open."""

from __future__ import annotations

import re
from collections import Counter
from datetime import UTC, datetime
from html.parser import HTMLParser

import pytest

from falcon_wsgi.commands.replay_html import page
from falcon_wsgi.models.comparison import Difference
from falcon_wsgi.models.replay import Example, Report

SINCE = datetime(2026, 1, 1, tzinfo=UTC)
EVIL = "<script>alert(1)</script>"
VOID = {"meta", "br"}


class Balance(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture
def report() -> Report:
    made = Report("m", "1.1.0", "1.0.0", logged=98, afresh=2, agreed=90)
    made.confusion = Counter({("a", "a"): 90, ("a", EVIL): 7})
    made.errors = Counter({"invalid: /x missing": 3})
    for distance in [0.0] * 90 + [0.4] * 7:
        made.distance.add(distance)
    made.candidate_ms.add(0.3)
    made.note(Example("e-1", 0, "a", EVIL, Difference(False, 0.4), {"text": f"private {EVIL}"}))
    return made


@pytest.mark.parametrize("show_inputs", [True, False])
def test_the_page_is_whole_and_needs_nothing_else(report: Report, show_inputs: bool) -> None:
    text = page(report, SINCE, show_inputs=show_inputs)
    parser = Balance()
    parser.feed(text)
    assert parser.open == []
    assert re.findall(r"(?:src|href)=|https?://(?!www\.w3\.org/2000/svg)|@import|url\(", text) == []


def test_nothing_from_the_log_becomes_markup(report: Report) -> None:
    assert "<script" not in page(report, SINCE, show_inputs=True)


def test_inputs_are_in_it_only_if_asked_for(report: Report) -> None:
    assert "private" in page(report, SINCE, show_inputs=True)
    assert "private" not in page(report, SINCE, show_inputs=False)


def test_the_figures_are_those_of_the_report(report: Report) -> None:
    text = page(report, SINCE, show_inputs=False)
    for figure in (
        "90 of 100 agree",
        "0.9000",
        "invalid: /x missing",
        ">7</text>",
        "98 live answers as logged",
    ):
        assert figure in text


def test_a_replay_that_was_stopped_says_so(report: Report) -> None:
    report.stopped = "a model's process died 10 times"
    assert "Stopped: a model&#x27;s process died 10 times." in page(report, SINCE, show_inputs=False)


def test_an_empty_report_is_a_page_too() -> None:
    assert "none" in page(Report("m", "1.1.0", "1.0.0"), SINCE, show_inputs=False)
