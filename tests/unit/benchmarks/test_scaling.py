"""What scaling experiments conclude from points, and how they show it."""

from __future__ import annotations

import random
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import orjson
import pytest

from falcon_wsgi.backends.journal_files import JournalWriter
from falcon_wsgi.models.compiled import CompiledLinearText
from tests.benchmarks.scaling import findings, latency, report, vocabulary
from tests.benchmarks.scaling.backlog import fill
from tests.benchmarks.scaling.chart import plot
from tests.benchmarks.scaling.fit import Line, exponent, line, upper_half
from tests.benchmarks.scaling.result import Panel, Point, Result
from tests.benchmarks.workloads import Workload

TENFOLD = (10.0, 100.0, 1000.0, 10_000.0)


def test_a_line_is_found_exactly_where_there_is_one() -> None:
    found = line([(x, 200 + 0.11 * x) for x in TENFOLD])
    assert found == Line(pytest.approx(200), pytest.approx(0.11), pytest.approx(1))


def test_a_small_cost_weighs_as_much_in_a_line_as_a_large_one() -> None:
    found = line([(10, 210), (100, 219), (10_000, 1201 * 1.05)])
    assert found.intercept == pytest.approx(209, rel=0.02)


def test_what_varies_without_x_has_a_slope_of_nothing_and_no_r2() -> None:
    found = line([(1, 100), (1, 120), (2, 100), (2, 120)])
    assert found.slope == pytest.approx(0)
    assert found.r2 == pytest.approx(0)


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0, 2.0])
def test_the_exponent_is_that_of_the_power(power: float) -> None:
    assert exponent([(x, 3 * x**power) for x in TENFOLD]) == pytest.approx(power)


@pytest.mark.parametrize("points", [[(1, 1)], [(1, 1), (1, 2)], [(1, 0), (2, 1)]])
def test_what_has_no_line_is_refused(points: list[tuple[float, float]]) -> None:
    with pytest.raises(ValueError, match="needs"):
        line(points)
    with pytest.raises(ValueError, match="needs"):
        exponent(points)


def test_the_upper_half_holds_the_larger_x() -> None:
    assert [x for x, _ in upper_half([(4, 1), (1, 1), (5, 1), (3, 1), (2, 1)])] == [3, 4, 5]
    assert [x for x, _ in upper_half([(2, 1), (1, 1)])] == [1, 2]


@pytest.mark.parametrize(
    ("power", "holds"), [(0.0, True), (1.0, True), (1.1, True), (1.3, False), (2.0, False)]
)
def test_faster_than_linear_is_found_behind_a_fixed_cost(power: float, holds: bool) -> None:
    points = [(x, 300 + 0.1 * x**power) for x in (10, 100, 1000, 30_000, 1_000_000)]
    found = findings.at_most_linear("CPU", points, "us", "character", per=1000)
    assert found.holds is holds
    assert found.word == ("as it should" if holds else "GROWS FASTER")


def test_a_linear_cost_is_told_per_unit() -> None:
    points = [(x, 200 + 0.25 * x) for x in TENFOLD]
    found = findings.at_most_linear("CPU", points, "us", "character", per=1000)
    assert found.measured.startswith("200 us, and 250 us for 1,000 characters, R2 1.000; exponent 0.")


def test_flat_is_judged_by_the_worst_point() -> None:
    points = [(4, 110.0), (1, 100.0), (2, 130.0)]
    assert findings.flat("CPU", points, "us", within=1.3).holds
    found = findings.flat("CPU", points, "us", within=1.25)
    assert not found.holds
    assert found.measured == "100 us at 1, at most 130 at 2: 1.30 times"


def test_a_rate_that_more_processes_lower_is_found() -> None:
    assert findings.not_lower("rate", [(1, 1000), (2, 2000), (4, 1700)], "workers", share=0.8).holds
    assert not findings.not_lower("rate", [(1, 1000), (2, 2000), (4, 1500)], "workers", share=0.8).holds


def test_round_trips_are_the_slope() -> None:
    twice = [(d, 1.5 + 2 * d) for d in (0.1, 1.1, 5.1)]
    assert findings.slope_at_most("cold", twice, 2, "round trips").holds
    found = findings.slope_at_most("cold", [(d, 1.5 + 5 * d) for d, _ in twice], 2, "round trips")
    assert not found.holds
    assert found.measured == "5.00 round trips, R2 1.000"


def test_throughput_may_fall_by_two_round_trips_and_not_by_four() -> None:
    def points(trips: float) -> list[tuple[float, float]]:
        return [(d, 32 / (32 / 4000 + trips * (d - 0.1) / 1000)) for d in (0.1, 1.1, 5.1)]

    assert latency.kept("cold", points(1.9)).holds
    assert not latency.kept("cold", points(4)).holds


@pytest.mark.parametrize(
    "found",
    [
        findings.at_most_linear("a", [], "us", "text"),
        findings.flat("a", [(0, 1)], "us", within=2),
        findings.flat("a", [(0, 0), (1, 1)], "us", within=2),
        findings.not_lower("a", [(1, 1)], "workers", share=0.8),
        findings.slope_at_most("a", [], 2, "round trips"),
        latency.kept("a", []),
    ],
)
def test_too_few_points_are_no_verdict(found: findings.Finding) -> None:
    assert found.holds is None
    assert found.word == "not measured"


@pytest.mark.parametrize(("value", "text"), [(0, "0"), (5000, "5k"), (1_000_000, "1M"), (0.109, "0.109")])
def test_numbers_are_short(value: float, text: str) -> None:
    assert findings.number(value) == text


def point(x: float, series: str = "", faults: tuple[str, ...] = (), **more: float) -> Point:
    return Point(
        x, series, 1234.4, 1234.4, 7.5, 12.25, 300 + x, {"redis": 9.0, "postgres": 30.0}, 250.0, more, faults
    )


def result(*points: Point) -> Result:
    found = Result("text-length", "Length of a text", "characters", "How & where.", list(points))
    cpu = found.of(lambda p: p.cpu_us)
    found.panels = [Panel("CPU us/request", "characters", {"": cpu}, log_x=True)]
    found.findings = [findings.flat("CPU/request", cpu, "us", within=1.5)]
    return found


def test_a_point_with_a_fault_is_shown_and_counts_for_nothing() -> None:
    found = result(point(10), point(100), point(1000, faults=("1 answer with a status of 400 or more",)))
    assert found.of(lambda p: p.cpu_us) == [(10, 310), (100, 400)]
    assert found.faults == ["text-length, 1000: 1 answer with a status of 400 or more"]
    assert found.faults[0] in report.page([found], {})
    assert found.faults[0] in report.markdown([found])


def test_tables_have_a_column_for_each_figure_and_a_row_for_each_point() -> None:
    head, *rows = report.rows(result(point(10), point(1000, **{"start s": 2.5})))
    assert head[:2] == ["characters", "requests/s"]
    assert head[-4:] == ["redis", "postgres", "PSS MB", "start s"]
    assert [len(row) for row in rows] == [len(head)] * 2
    assert rows[0][-1] == ""
    assert rows[1] == ["1k", "1,234", "7.50", "12.25", "1,300", "9", "30", "250", "2.50"]


def test_markdown_holds_tables_that_render_findings_and_a_link_to_the_plot() -> None:
    text = report.markdown([result(point(10), point(100))])
    table = [row for row in text.splitlines() if row.startswith("|")]
    assert len({row.count("|") for row in table}) == 1
    assert "- CPU/request (expected: flat: at most 1.5 times that at the least)" in text
    assert "**as it should**" in text
    assert "](plots/text-length.svg)" in text


def test_a_page_escapes_what_it_shows_and_needs_nothing_else() -> None:
    page = report.page([result(point(10), point(100))], {"cores": 2})
    assert "How &amp; where." in page
    assert "<script" not in page
    assert "://" not in page


@pytest.mark.parametrize("log", [False, True])
def test_every_point_is_drawn_inside_the_plot(log: bool) -> None:
    lines = {"a": [(0.0, 1.0), (10.0, 900.0), (1000.0, 12_345.0)], "b": [(10.0, 2.0)]}
    svg = plot([Panel("t < u", "x", lines, log_x=log, log_y=log)] * 2, standalone=True)
    root = ElementTree.fromstring(svg)
    width, height = (float(root.attrib[name]) for name in ("width", "height"))
    circles = re.findall(r'<circle cx="([-\d.]+)" cy="([-\d.]+)"', svg)
    assert len(circles) == 8
    assert all(0 < float(x) < width / 2 and 0 < float(y) < height for x, y in circles)


def test_what_was_not_measured_leaves_no_plot() -> None:
    assert "<polyline" not in plot([Panel("t", "x", {"": []})])


@pytest.mark.parametrize("characters", [10, 11, 100, 3000])
def test_texts_have_exactly_their_length_and_no_space_at_the_end(characters: int) -> None:
    workload = Workload("w", "", "sentiment", characters=characters)
    rng = random.Random(1)
    texts = {workload.draw(rng).inputs[0] for _ in range(50)}
    assert len(texts) == 50
    assert {len(" ".join(text.split())) for text in texts} == {characters}


def test_numbered_words_are_all_in_the_vocabulary() -> None:
    workload = Workload("w", "", "sentiment", numbered=50)
    known = vocabulary.pipeline_of(50)[0].vocabulary_
    assert set(workload.draw(random.Random(1)).inputs[0].split()) <= known.keys()


def test_the_model_of_a_vocabulary_is_served_in_its_compiled_form() -> None:
    pipeline = vocabulary.pipeline_of(50)
    (expected,) = pipeline.predict_proba(["w1 w7 w7 w50 unknown"]).tolist()
    found = CompiledLinearText(pipeline).probabilities("w1 w7 w7 w50 unknown")
    assert found == pytest.approx(expected, abs=1e-12)


def test_a_filled_journal_is_adopted_whole_and_holds_each_row_once(tmp_path: Path) -> None:
    fill(tmp_path, 25)
    journal = JournalWriter.open(tmp_path, "worker-1")
    try:
        journal.backlog.maintain()
        ids = []
        while (batch := journal.backlog.take(1000)) is not None:
            ids += [orjson.loads(frame.payload)["event_id"] for frame in batch.frames]
            batch.acknowledge(len(batch.frames))
            batch.release()
    finally:
        journal.close()
    assert len(ids) == len(set(ids)) == 25
    assert not list(tmp_path.iterdir())
